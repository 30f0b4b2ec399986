"""Every command: its name, the function that it is, and what it does in a line. A new command is a row here.

appliance --help
"""

from __future__ import annotations

from collections.abc import Mapping

from appliance.cli.lazy import Command, Group

COMMANDS: Mapping[str, Command | Group] = {
    "init": Command(
        "init:init",
        "Create the data folder: keys, tables, the base model (fetched once, checked by hash), bundled specialists.",
    ),
    "upgrade": Command("init:upgrade", "Bring a data folder of an older release up to this one."),
    "serve": Command("serve:serve", "Serve the API and the pages until it is told to stop (Ctrl+C, SIGTERM)."),
    "deidentify": Command(
        "text:deidentify", "De-identify one text and print it; what was found and the receipt go to stderr."
    ),
    "run": Command("text:run_specialist", "Run a specialist over a file of JSON lines."),
    "route": Command(
        "route:route_text", "Say which specialist a text is for, with the nearest examples and the runner-up."
    ),
    "find": Command(
        "find:find",
        "Find the best passages of each label in a long document, with their offsets. --json has all of them.",
    ),
    "evaluate": Command(
        "evaluate:evaluate_specialist",
        "Judge a specialist on labelled data: figures with intervals, by label, latency and cost.",
    ),
    "doctor": Command("doctor:doctor", "Check the machine and the data folder; say what to do about each finding."),
    "restore": Command("backup:restore", "Make a data folder of a backup, on this machine, with the recovery kit."),
    "specialists": Group(
        "Which specialists are installed, and what each promises.",
        {
            "list": Command("specialists:list_specialists", "List the installed specialists."),
            "show": Command(
                "specialists:show_specialist",
                "Show one specialist: labels, limits, data it learned from, how good it was measured to be, "
                "and how well the router finds it.",
            ),
            "versions": Command(
                "specialist_life:versions",
                "List the installed versions: which is active, which waits for approval, who signed and approved it.",
            ),
            "install": Command("specialist_life:install", "Install a specialist file."),
            "approve": Command("specialist_life:approve", "Approve a version that somebody else installed or taught."),
            "promote": Command("specialist_life:promote", "Let an approved version answer."),
            "rollback": Command(
                "specialist_life:rollback", "Undo the last promotion: the version that was active before answers again."
            ),
            "remove": Command("specialist_life:remove", "Remove a version that is not active, and its file."),
            "verify": Command(
                "specialist_life:verify",
                "Read an installed file again and check its hash and its signature under the keys trusted now.",
            ),
            "export": Command(
                "specialist_life:export", "Write the file of a version and its signature, if it has one, as a zip."
            ),
            "sign": Command(
                "specialist_life:sign", "Sign a specialist file with a key of your own, as OpenSSF Model Signing does."
            ),
            "keys": Command("specialist_life:keys", "List the keys whose signatures count."),
            "trust": Command("specialist_life:trust", "Let signatures of a key count."),
            "distrust": Command("specialist_life:distrust", "Let signatures of a key count no more."),
            "teach": Command(
                "teaching:teach",
                "Teach a specialist from rows that you labelled, in minutes and without a GPU.",
            ),
            "train": Command("teaching:train", "Train a specialist from a recipe, with progress."),
        },
    ),
    "models": Group(
        "Models that write: fetched or carried in, checked, and listed.",
        {
            "list": Command("models:list_models", "List the models that are here."),
            "catalogue": Command(
                "models:catalogue",
                "List well-known models with open licences that can be pulled, small ones first, and what they need.",
            ),
            "show": Command(
                "models:show_model",
                "Show one model: architecture, size, context, licence, where it came from, the memory it needs here.",
            ),
            "pull": Command("models:pull", "Fetch a model from the Hugging Face hub or the mirror in models.hub_url."),
            "import": Command("models:import_model", "Take in a model that was carried here, without any network."),
            "verify": Command("models:verify", "Hash the file of a model again and compare."),
            "remove": Command("models:remove", "Delete a model from this machine."),
            "export": Command(
                "models:export", "Write a model into a folder, to be carried to a machine without a network."
            ),
        },
    ),
    "guard": Group(
        "What happens to names and numbers of persons in chats with models that write.",
        {
            "show": Command(
                "guard:show",
                "Show the policy of every workspace, who works where, and how many identifiers the detector was "
                "measured to find.",
            ),
            "set": Command(
                "guard:set_policy",
                "Set what happens to identifiers in the chats of a workspace: allow, mark, mask (kept from the model) "
                "or block.",
            ),
            "assign": Command("guard:assign", "Put an account into a workspace; `default` takes it out of any other."),
        },
    ),
    "users": Group(
        "Accounts of people.",
        {
            "add": Command("users:add", "Add an account."),
            "list": Command("users:list_users", "List the accounts."),
            "disable": Command("users:disable", "Disable an account: its sessions and API keys end at once."),
            "enable": Command("users:enable", "Let a disabled account work again."),
            "set-password": Command("users:set_password", "Give an account another password; its sessions end."),
            "setup-link": Command(
                "users:setup_link", "Make a one-time token for the page /setup, which creates an administrator."
            ),
        },
    ),
    "api-keys": Group(
        "Keys for programs that call the API.",
        {
            "create": Command("api_keys:create", "Create a key and print it, once."),
            "list": Command("api_keys:list_keys", "List the keys, without their secrets."),
            "revoke": Command("api_keys:revoke", "Revoke a key, at once."),
        },
    ),
    "audit": Group(
        "Look into the audit log, prove it, verify it, export it.",
        {
            "list": Command("audit:list_records", "List records, newest first."),
            "show": Command("audit:show_record", "Show one record with its content, or its proof file."),
            "checkpoint": Command("audit:show_checkpoint", "Print the newest signed checkpoint."),
            "search": Command("audit_search:search", "Search records, newest first, with a progress bar."),
            "activity": Command("audit_search:activity", "Show how many records were committed when."),
            "shred": Command(
                "audit_keeping:shred",
                "Destroy the keys of all content about one subject, for ever, and write a certificate of it.",
            ),
            "erasures": Command("audit_keeping:erasures", "List every destruction that was announced, newest first."),
            "verify": Command("audit_export:verify", "Verify what is new in the log with the stand-alone verifier."),
            "check-receipt": Command(
                "audit_export:check_receipt", "Compare a receipt that somebody kept with the log."
            ),
            "export": Command(
                "audit_export:export", "Write the log to a file, whole or not at all; nothing is overwritten."
            ),
            "exposure": Command(
                "audit_recovery:exposure",
                "Say how old the newest checkpoint outside this machine is.",
            ),
            "epochs": Command(
                "audit_recovery:epochs",
                "List the logs of this data folder, newest first: a declared loss closes one and begins the next.",
            ),
            "recover": Command(
                "audit_recovery:recover",
                "Go on after a loss that no backup brings back: a new log begins and says which records are missing.",
            ),
            "hold": Group(
                "Legal holds: what must not be destroyed.",
                {
                    "place": Command(
                        "audit_keeping:place_hold",
                        "Place a legal hold: nothing that it covers is destroyed until two people release it.",
                    ),
                    "list": Command("audit_keeping:list_holds", "List every legal hold, newest first."),
                    "release": Command(
                        "audit_keeping:release_hold",
                        "Ask for the release of a hold, or approve what another person asked for within a week.",
                    ),
                },
            ),
            "retention": Group(
                "How long records are kept.",
                {
                    "show": Command(
                        "audit_keeping:show_retention",
                        "Show how long each class is kept, and the months whose time has come.",
                    ),
                    "set": Command("audit_keeping:change_retention", "Keep a class of records longer."),
                    "run": Command("audit_keeping:run_retention", "Destroy now what has expired."),
                },
            ),
        },
    ),
    "keys": Group(
        "What unlocks the log, and the rotation of its keys.",
        {
            "list": Command("keys:list_keys", "List what unlocks the log, and the keys that sign it."),
            "add-passphrase": Command("keys:add_passphrase", "Let another passphrase unlock the log."),
            "change-passphrase": Command("keys:change_passphrase", "Replace a passphrase."),
            "add-file": Command(
                "keys:add_file", "Let another key file unlock the log: on another medium, or for systemd-creds."
            ),
            "remove-slot": Command("keys:remove_slot", "Take away a way to unlock the log."),
            "rotate": Command("keys:rotate", "Replace a key above the keys of records."),
            "distrust": Command(
                "keys:distrust",
                "Stop trusting the signing key, which was stolen: a new one signs, and the log says from where on.",
            ),
            "check": Command("keys:check", "Say which slot a key opens."),
        },
    ),
    "support-bundle": Command(
        "support:support_bundle", "Write a file for whoever helps: facts of the machine, no content, name or key."
    ),
    "tls": Group(
        "The server's certificate: by an authority of the site's own, or the firm's.",
        {
            "create": Command(
                "tls:create",
                "Make a certificate by an authority of the site's own, which can vouch for these names and no others.",
            ),
            "use": Command("tls:use", "Take the firm's certificate."),
            "show": Command("tls:show", "Show the certificate in use: names, end and fingerprint."),
        },
    ),
    "recovery-kit": Group(
        "The key on paper: for backups, and when every other key is lost.",
        {
            "create": Command(
                "recovery_kit:create", "Print a new recovery kit, once, and keep it only after it was typed back."
            ),
            "check": Command("recovery_kit:check", "Say which slot a recovery kit opens."),
            "use": Command(
                "recovery_kit:use", "Make a new key file in place of one that is lost, with the recovery kit."
            ),
        },
    ),
    "backup": Group(
        "Backups: made, verified, rehearsed, let go.",
        {
            "create": Command("backup:create", "Write an encrypted backup, read it back and record it."),
            "verify": Command("backup:verify", "Open all of a backup and keep nothing."),
            "drill": Command("backup:drill", "Rehearse a restore in a folder that is thrown away."),
            "list": Command("backup:list_backups", "List the backups of this log, newest first."),
            "prune": Command("backup:prune", "Delete backups that have expired."),
        },
    ),
    "bundle": Group(
        "Signed bundles for sites without a network: made and verified.",
        {
            "key": Command("bundle:make_key", "Make a key that signs roots or bundles, and print its public half."),
            "root": Command(
                "bundle:make_root", "Write a root, which names the keys that make releases, with a first signature."
            ),
            "sign-root": Command(
                "bundle:sign_root",
                "Put another signature under a root, or under the next one with a key of the root before.",
            ),
            "create": Command("bundle:create", "Write one signed file with packages, models and lists."),
            "verify": Command("bundle:verify", "Verify every signature and hash of a bundle."),
            "show": Command("bundle:show", "Show what a bundle says of itself."),
        },
    ),
    "witness": Group(
        "Run a witness on another machine: it keeps a log from being put back.",
        {
            "init": Command("witness:init", "Make a witness: a key and an empty memory."),
            "add-log": Command("witness:know_log", "Know a log, or the next key of a log that rotates its own."),
            "serve": Command("witness:serve", "Serve until it is told to stop (Ctrl+C, SIGTERM)."),
            "show": Command(
                "witness:show",
                "Show each known log: how many records were cosigned, how long ago, and what was refused.",
            ),
        },
    ),
}
