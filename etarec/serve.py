"""Serves the answer of a search by HTTP: `python -m etarec.serve RUN`."""

import argparse
import ipaddress
import logging
import os
import signal
import socket
import sys
import textwrap
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType

import torch
import uvicorn

from etarec.command_line import INTERRUPTED, absolute_path, command_parser, exit_status, short_path
from etarec.config import UserError
from etarec.serving import ADVISED, BASELINES, Durable, GuardConfig, Run, load, read
from etarec.serving.durable import EVERY, SNAPSHOT
from etarec.serving.recommender import MAX_USERS
from etarec.serving.service import Service, application

TOKEN = "ETAREC_TOKEN"  # noqa: S105 - the name of a variable
NO_SNAPSHOT = b"interrupted again: no snapshot was taken; the next start learns the journal\n"


@exit_status(interrupted="interrupted before the service began")
def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 after SIGTERM or Ctrl-C, 130 after a second Ctrl-C, 2 for what the user can fix."""
    given = _parse(arguments)
    token = os.environ.get(TOKEN, "")
    check_reachable(given.host, token)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    torch.set_num_threads(given.threads)
    run = read(given.run, given.checkpoint, given.baseline)
    served = durable(given)
    verdict = f"verdict     {run.advice or 'none: the search was cut off'}"
    print(textwrap.fill(verdict, 80, subsequent_indent=" " * 12))
    print(f"serves      {run.name}{hint(run, given.baseline)}")
    print(f"state       {short_path(served.folder)}: {served.recovered:,} observations since the last snapshot")
    about = {"run": given.run.name, "verdict": run.verdict, "serves": run.name}
    app = application(Service(served, about), token)
    listener = listening(given.host, given.port)
    server = Server(uvicorn.Config(app, log_level="warning"))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    print(f"serving     {address(listener)}", flush=True)
    server.run(sockets=[listener])
    return 0


class Server(uvicorn.Server):
    """Stops gracefully at SIGTERM and Ctrl-C, and at once at a second Ctrl-C, as a kill would stop it."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Does nothing: `main` has set the handlers, so that a signal during the start counts too."""
        return nullcontext()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and sig == signal.SIGINT:
            os.write(sys.stderr.fileno(), NO_SNAPSHOT)
            os._exit(INTERRUPTED)
        super().handle_exit(sig, frame)


def listening(host: str, port: int) -> socket.socket:
    """The socket of the service. Raises UserError if it cannot be opened.

    Its connections send an answer's body without waiting for the client to confirm the headers, which takes 40 ms.
    asyncio asks for that itself only where a socket names its protocol.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: cannot listen there ({error}); expected a free port") from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
    return listener


def address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def durable(given: argparse.Namespace) -> Durable:
    """The recommender of the command line with its state."""
    state = given.state or given.run / (f"serving-{given.baseline}" if given.baseline else "serving")
    recommender = load(
        given.run,
        checkpoint=given.checkpoint,
        baseline=given.baseline,
        log=not (state / SNAPSHOT).exists(),
        guard=GuardConfig(given.guard) if given.guard is not None else None,
        max_users=given.max_users,
    )
    return Durable(recommender, state, given.snapshot_every)


def hint(run: Run, baseline: str | None) -> str:
    """How to serve what the verdict advises, where that is not served."""
    advised = ADVISED.get(run.verdict)
    return f" (the verdict: --baseline {advised})" if advised not in (None, baseline) else ""


def check_reachable(host: str, token: str) -> None:
    """Raise UserError if others could reach the service without a token."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and not token:
        raise UserError(f"--host {host}: others can reach it, expected a token in {TOKEN}, or a loopback address")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("etarec.serve", "Serve the answer of a search by HTTP.")
    parser.add_argument("run", type=absolute_path, metavar="RUN", help="folder of a finished search, such as runs/demo")
    parser.add_argument("--host", default="127.0.0.1", help=f"address; any but loopback needs a token in {TOKEN}")
    parser.add_argument("--port", type=_port, default=8080, help="port; 0 is any free one (default: 8080)")
    parser.add_argument(
        "--state",
        type=absolute_path,
        metavar="DIR",
        help="folder of the state (default: RUN/serving, with a baseline RUN/serving-NAME)",
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="the search's checkpoint, if it was moved")
    parser.add_argument(
        "--baseline",
        choices=BASELINES,
        help="serve the checkpoint without adaptation (none), learn from every observation (all) or skip at random, "
        "instead of the chosen trial",
    )
    parser.add_argument(
        "--guard",
        type=_share,
        default=GuardConfig().tolerance,
        metavar="SHARE",
        help="share of the frozen model's hits that may be lost before the model goes back to its checkpoint, or `off` "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--snapshot-every", type=int, default=EVERY, metavar="N", help="observations (default: %(default)s)"
    )
    parser.add_argument(
        "--max-users", type=int, default=MAX_USERS, metavar="N", help="histories (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of the model (default: 1)")
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"given {text}, expected a number from 0 to 65535")
    return int(text)


def _share(text: str) -> float | None:
    return None if text == "off" else float(text)


if __name__ == "__main__":
    sys.exit(main())
