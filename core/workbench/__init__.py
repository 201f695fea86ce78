"""The app's workbench: a process that does by hand what jobs do in series, as `core.contract.workbench` has it.

`python -P -m core.workbench` reads requests from stdin and writes replies to stdout, one JSON object a line. It imports
no torch before a request needs it.
"""

from collections.abc import Generator

from core.contract.workbench import AnyReply

Replies = Generator[AnyReply | None, None, str]
"""The replies to one request; None lets others have a turn. The generator's value is what was written, or ""."""
