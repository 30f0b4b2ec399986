"""A data folder that is put back to one state before every experiment.

bench = Bench.of(home, root_key, zygote, folder)
bench.fill(300)                 # records whose state every experiment begins with
run = inject(zygote, bench.experiment("append_batches", 4), "fdatasync:error=EIO", 3)
bench.look(run)                 # asserts what must hold; see `look.py`
bench.reset()
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from appliance.audit.keystore import open_keystore
from appliance.audit.log import _start
from appliance.audit.protocol import Start
from appliance.config import Home
from tests.audit.audit_home import config_of
from tests.audit.faults.look import Found, look
from tests.audit.faults.submitter import submit
from tests.audit.faults.tracing import Experiment, Run, paths_of, run_alone
from tests.audit.faults.zygote import Zygote


@dataclass
class Bench:
    """One data folder, its start message, and the state to which `reset` puts it back."""

    home: Home
    start: Start
    zygote: Zygote
    folder: Path

    @classmethod
    def of(cls, home: Home, root_key: bytes, zygote: Zygote, folder: Path) -> Bench:
        """A bench over `home` as it is; notes and traces go to `folder`, outside of it."""
        bench = cls(home, _start(config_of(home), open_keystore(home, root_key)), zygote, folder / "bench")
        bench.folder.mkdir()
        bench.keep()
        return bench

    @property
    def audit(self) -> Path:
        """The folder of the log."""
        return self.home.audit_database.parent

    def keep(self) -> None:
        """Make the present state the one that `reset` puts back."""
        shutil.rmtree(self.folder / "kept", ignore_errors=True)
        shutil.copytree(self.audit, self.folder / "kept")

    def reset(self) -> None:
        """Back to the kept state."""
        for path in self.audit.iterdir():
            path.unlink()
        for path in (self.folder / "kept").iterdir():
            shutil.copy(path, self.audit)

    def fill(self, records: int) -> None:
        """Append so many records, numbered from a million, and keep the state."""
        done = run_alone(self.zygote, self.experiment("append_batches", 1, records, 1_000_000))
        assert done.status == 0 and len(done.places) == records
        self.keep()

    def experiment(self, function: str, *arguments: object) -> Experiment:
        """What a child is to run on this log."""
        return Experiment(function, (self.start, *arguments), paths_of(self.audit), self.folder)

    def conversation(self, records: int) -> Experiment:
        """A sequencer process and a submitter that sends it so many records, one after the other."""
        talk = partial(submit, self.start, records)
        experiment = self.experiment("run_sequencer")
        return replace(experiment, arguments=(self.zygote.pid,), conversation=talk)

    def look(self, run: Run) -> Found:
        """Open the log again and assert what must hold after any fault."""
        return look(self.start, run.places, run.note, self.folder)
