"""What a check found."""

from dataclasses import dataclass

OK, NOTE, MISSING = "ok", "note", "missing"  # as it should be | the main job can do without | it can't


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of one check."""

    state: str  # OK, NOTE or MISSING
    name: str  # of what was looked at
    found: str
    advice: str = ""  # what to do about it

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.state:<8} {self.name:<10} {self.found}" + (f" -> {self.advice}" if self.advice else "")
