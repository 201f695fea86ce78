"""The sections of the Compare screen: which there are, and which parts of the screen each one shows."""

from __future__ import annotations

from enum import StrEnum

from textual.content import Content


class Section(StrEnum):
    """What the screen shows; tab goes through them in this order."""

    OVERVIEW = "overview"
    PROBLEMS = "problems"
    SETTINGS = "settings"
    CURVES = "curves"
    COSINES = "cosine map"

    def stepped(self, steps: int) -> Section:
        """So many sections on."""
        every = list(Section)
        return every[(every.index(self) + steps) % len(every)]


PARTS = ("metrics", "problems", "curves", "settings", "cosines")


def parts_of(section: Section, narrow: bool, short: bool) -> frozenset[str]:
    """The parts that a section shows; the overview shows as many as there is room for."""
    if section is Section.OVERVIEW:
        parts = ["metrics"]
        parts += [] if short else ["problems"]
        parts += [] if narrow else ["curves"]
        parts += [] if short or narrow else ["settings"]
        return frozenset(parts)
    return frozenset({"cosines" if section is Section.COSINES else section.value})


def section_bar(section: Section, width: int) -> Content:
    """The sections by name, the present one reversed; a click goes to another."""
    names = Content("  ").join(_tab(one, one is section) for one in Section)
    return Content.assemble(" ", names).truncate(width, ellipsis=True)


def _tab(section: Section, here: bool) -> Content:
    style = "bold reverse" if here else "$text-muted"
    return Content.styled(f" {section.value} ", f"{style} @click=screen.section('{section.name}')")
