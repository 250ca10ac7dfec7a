"""The page of changes of the core that no test notices."""

from __future__ import annotations

from tests.mutants import NO_REASON, PAGE, Survivor


def test_each_surviving_mutant_has_a_reason_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "| why no test needs to notice |" in text
    assert NO_REASON not in text


def test_a_reason_is_derived_only_from_changes_of_words() -> None:
    def reason(change: str) -> str | None:
        return Survivor("module", "function", change).reason

    assert reason('raise Error("a") -> raise Error("XXaXX")') == "the wording of a message"
    assert reason("asked = False -> asked = None") == "None is as false as False"
    assert reason('self.said.log(self.tier, "missing") -> self.said.log(self.tier, None)') is not None
    for change in ("asked = False -> asked = True", "a += (b,) -> a = (b,)", "return None -> return 1"):
        assert reason(change) is None
