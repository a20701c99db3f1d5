"""Outcomes of tests, read from the junit xml of a run."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

_EXCEPTION = re.compile(r"^(?:E +)?([A-Za-z_][\w.]*): ", re.MULTILINE)
_NAME_OF_EXCEPTION = re.compile(r"^(?:E +)?((?:[a-z_]\w*\.)*[A-Z]\w*)(?::|$)", re.MULTILINE)
# A test of several processes fails in the parent with the traceback of a child in the message.
_IN_A_CHILD = re.compile(r"^.*Process \d+ exited with .*?exception:$", re.MULTILINE)
_NEEDS_ACCELERATOR = re.compile(
    r"Torch not compiled with (CUDA|XPU)|No CUDA GPUs|Found no NVIDIA|Cannot access accelerator"
    r"|No backend type associated with device type (cuda|xpu)|built with NCCL|with CUDA support"
    r"|PyTorch is not linked with support for (cuda|xpu)"
    r"|Expected one of .* device type at start of device string: cuda"
)
_CALLS = "shardplan.calls:"
_FALLBACKS = "shardplan.fallbacks:"


@dataclasses.dataclass
class FileRun:
    """What one run of one test file did.

    Attributes:
        outcomes: test id -> "passed", "skipped", "failed ..." or "error ...", the last two with the
            type of the exception.
        details: test id -> the message and traceback of a failure.
        calls: calls by function of shardplan.
        fallbacks: fallbacks to upstream's code, by reason.
    """

    outcomes: dict[str, str] = dataclasses.field(default_factory=dict)
    details: dict[str, str] = dataclasses.field(default_factory=dict)
    calls: Counter[str] = dataclasses.field(default_factory=Counter)
    fallbacks: Counter[str] = dataclasses.field(default_factory=Counter)


def read(file: Path) -> FileRun:
    """Reads the junit xml of a run."""
    done = FileRun()
    root = ElementTree.parse(file).getroot()
    for case in root.iter("testcase"):
        test = f"{case.attrib.get('classname', '')}::{case.attrib['name']}".removeprefix("::")
        # A test that failed may have a second element for an error at teardown.
        outcome, detail = _outcome(case)
        if done.outcomes.get(test, "passed") == "passed":
            done.outcomes[test] = outcome
            done.details[test] = detail
    for element in root.iter("property"):
        name, value = element.attrib["name"], element.attrib["value"]
        if name.startswith(_CALLS):
            done.calls[name.removeprefix(_CALLS)] += int(value)
        elif name.startswith(_FALLBACKS):
            done.fallbacks[name.removeprefix(_FALLBACKS)] += int(value)
    return done


def _outcome(case: ElementTree.Element) -> tuple[str, str]:
    for kind, word in (("failure", "failed"), ("error", "error"), ("skipped", "skipped")):
        element = case.find(kind)
        if element is None:
            continue
        message = element.attrib.get("message", "")
        detail = f"{message}\n{element.text or ''}".strip()
        if word == "skipped":
            return "skipped", detail
        if _NEEDS_ACCELERATOR.search(detail):
            return "skipped", f"needs an accelerator: {detail}"
        return f"{word} {exception_type(message, detail)}", detail
    return "passed", ""


def exception_type(message: str, detail: str) -> str:
    """Returns the type of the exception that made a test fail; the child's if a child failed."""
    child = _IN_A_CHILD.search(detail)
    if child is not None:
        names = _NAME_OF_EXCEPTION.findall(detail, child.end())
        names = [name for name in names if not name.startswith(("Traceback", "Process"))]
        if names:
            return str(names[0])
    named = _EXCEPTION.match(message) or _NAME_OF_EXCEPTION.match(message)
    return named[1] if named is not None else "of an unknown type"
