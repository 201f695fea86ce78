"""Which request is answered by what. What a request needs is imported when the first one of its kind comes."""

from __future__ import annotations

from core.contract.control import ControlInbox
from core.contract.workbench import (
    AnyRequest,
    Complete,
    ExportCheckpoint,
    ImportAdapter,
    InspectTokens,
    MapCosines,
    RunProgram,
    ScoreCheckpoint,
)
from core.workbench import Replies
from core.workbench.models import Models


class Answers:
    """Answers requests, and keeps the model that they share."""

    def __init__(self) -> None:
        self._models = Models()

    def __call__(self, request: AnyRequest, control: ControlInbox) -> Replies:
        """The replies to a request. A generator, so that a failing import is a failure of the request."""
        match request:
            case RunProgram():
                from core.workbench.programs import run_program

                return (yield from run_program(request))
            case Complete():
                from core.workbench.completing import complete_prompt

                return (yield from complete_prompt(request, self._models))
            case InspectTokens():
                from core.workbench.inspection import inspect_tokens

                return (yield from inspect_tokens(request, self._models))
            case MapCosines():
                from core.workbench.inspection import map_cosines

                return (yield from map_cosines(request))
            case ScoreCheckpoint():
                from core.workbench.checkpoints import score_checkpoint

                return (yield from score_checkpoint(request, self._models, control))
            case ExportCheckpoint():
                from core.workbench.checkpoints import export_checkpoint

                return (yield from export_checkpoint(request))
            case ImportAdapter():
                from core.workbench.checkpoints import import_adapter

                return (yield from import_adapter(request))
        raise TypeError(f"nothing answers {request.type}")
