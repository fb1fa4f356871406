"""What was looked at, line by line; the first thing that is wrong ends the trial."""

from processes import Failure


class Report:
    def __init__(self):
        self.checks = 0

    def head(self, text):
        print(f"\n{text}", flush=True)

    def check(self, what, holds, found="", do=""):
        """`found`: what there is instead; `do`: where to look."""
        print(f"  {'ok' if holds else 'FAILED':6}  {what}", flush=True)
        if not holds:
            raise Failure("\n  ".join(line for line in (what, found and f"found: {found}", do) if line))
        self.checks += 1

    def equal(self, what, found, expected, do=""):
        self.check(f"{what}: {expected}", found == expected, f"{found!r}", do)
