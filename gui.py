"""Opens Atelier's page: `python gui.py`, or `./gui.sh`, which sets everything up first. `--help` lists the options."""

from __future__ import annotations

import os
import sys

if sys.version_info < (3, 10):  # noqa: UP036 - said in words, before anything is imported that would fail less clearly
    sys.exit(f"Atelier needs Python 3.10 or newer (this is {sys.version.split()[0]}). Start it with ./gui.sh.")

# Before gradio is imported: no telemetry, no look-ups of other hosts.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
if os.environ.get("HF_HUB_OFFLINE", "") in ("", "0"):
    os.environ["ATELIER_DEFAULT_OFFLINE"] = "1"  # ours, not the user's: a download that was agreed to may go out
os.environ["HF_HUB_OFFLINE"] = "1"


def main() -> None:
    from ui.options import options

    chosen = options()
    if chosen.set_password or chosen.forget_password:
        from ui import passwords

        sys.exit(passwords.change(forget=chosen.forget_password))
    from ui import app, server

    server.serve(app.build(), chosen)


if __name__ == "__main__":
    main()
