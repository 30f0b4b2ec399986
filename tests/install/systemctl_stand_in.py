#!/usr/bin/python3
"""What the installer needs of `systemctl`, where no systemd runs: units start as they say, with their user, environment
and sealed credentials; a unit whose credential cannot be unsealed does not start. See `machine.py`.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

UNITS, STATE, CREDENTIALS = Path("/etc/systemd/system"), Path("/run/stand-in"), Path("/run/credentials")


def main(words):
    options = {word for word in words if word.startswith("--")}
    verb, *units = [word for word in words if not word.startswith("--")]
    os.umask(0o022)
    STATE.mkdir(exist_ok=True)
    if verb == "daemon-reload":
        return 0
    (unit,) = units
    enabled = STATE / f"{unit}.enabled"
    if verb == "enable":
        enabled.touch()
    elif verb == "disable":
        enabled.unlink(missing_ok=True)
        if "--now" in options:
            stop(unit)
    elif verb == "is-enabled":
        return 0 if enabled.exists() else 1
    elif verb == "is-active":
        return 0 if is_active(unit) else 3
    elif verb in ("restart", "stop", "start"):
        if verb != "start":
            stop(unit)
        if verb != "stop":
            return start(unit)
    return 0


def settings(unit):
    """Values of a unit by name, in order."""
    found = {}
    for line in (UNITS / unit).read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def start(unit):
    said = settings(unit)
    for required in said.get("Requires", []):
        if not is_active(required) and start(required):
            return 1
    command = shlex.split(said["ExecStart"][0])
    if said.get("Type") == ["oneshot"]:
        status = subprocess.run(command).returncode
        (STATE / f"{unit}.pid").write_text("0") if status == 0 else None
        return status
    environment = {"PATH": os.environ["PATH"]}
    for line in said.get("Environment", []):
        environment |= dict(word.split("=", 1) for word in shlex.split(line))
    user = said["User"][0]
    if "LoadCredentialEncrypted" in said:
        environment["CREDENTIALS_DIRECTORY"] = str(CREDENTIALS / unit)
        if not unseal(unit, user, said["LoadCredentialEncrypted"]):
            return 1
    with (STATE / f"{unit}.log").open("ab") as log:
        process = subprocess.Popen(
            ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", *command],
            env=environment,
            cwd=said["WorkingDirectory"][0],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (STATE / f"{unit}.pid").write_text(str(process.pid))
    return 0


def unseal(unit, user, credentials):
    """As systemd does: the name inside must be the one that is asked for, and the file's."""
    folder = CREDENTIALS / unit
    folder.mkdir(parents=True, exist_ok=True)
    for credential in credentials:
        name, file = credential.split(":")
        assert Path(file).name == name
        target = folder / name
        target.unlink(missing_ok=True)
        if subprocess.run(["systemd-creds", "decrypt", file, str(target)]).returncode != 0:
            return False
        target.chmod(0o400)
        subprocess.run(["chown", "-R", user, str(folder)], check=True)
    return True


def is_active(unit):
    try:
        process = int((STATE / f"{unit}.pid").read_text())
        return process == 0 or Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def stop(unit):
    if not is_active(unit):
        return
    process = int((STATE / f"{unit}.pid").read_text())
    if process == 0:
        for line in settings(unit).get("ExecStop", []):
            subprocess.run(shlex.split(line), check=True)
    else:
        os.kill(process, signal.SIGTERM)
        for _ in range(600):
            if not is_active(unit):
                break
            time.sleep(0.05)
        else:
            os.kill(process, signal.SIGKILL)
    (STATE / f"{unit}.pid").unlink()


sys.exit(main(sys.argv[1:]))
