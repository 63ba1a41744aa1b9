"""A stand-in in a process of its own: `python -m tests.support.hub --folder DIR --port-file FILE`."""

import argparse
import threading
from pathlib import Path

from tests.support.hub.hub import HubStandIn


def main() -> None:
    """Answer requests until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where state is kept; memory only when not given")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--port-file", type=Path, help="gets the URL once requests are answered")
    parser.add_argument("--token", action="append", default=[], help="NAME:USER:ROLE, may be repeated")
    parser.add_argument("--repo", action="append", default=[], help="USER/NAME to make, private, if it is not there")
    parser.add_argument("--part-bytes", type=int)
    options = parser.parse_args()
    hub = HubStandIn(options.folder, port=options.port, part_bytes=options.part_bytes)
    for token in options.token:
        hub.add_token(*token.split(":"))
    for repo in options.repo:
        if hub.key(repo) not in hub.repositories:
            hub.create(repo)
    hub.start()
    if options.port_file:
        half = options.port_file.with_name(options.port_file.name + ".half")
        half.write_text(hub.url)
        half.replace(options.port_file)
    threading.Event().wait()


if __name__ == "__main__":
    main()
