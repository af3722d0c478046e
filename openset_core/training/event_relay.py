"""Events of a training process, told to the observers of the process that started it."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection

import attrs

from openset_core.observers import Observer, Observers, RunEvent


@attrs.frozen
class Relay(Observer):
    """The sending end; it goes to a worker process with its arguments and observes there."""

    connection: Connection
    wants: tuple[type[RunEvent], ...]  # of the observers at the other end

    def receive(self, event: RunEvent) -> None:
        with contextlib.suppress(OSError):  # nobody listens once the starting process has ended
            self.connection.send(event)


@contextlib.contextmanager
def relayed(observers: Observers) -> Iterator[Relay]:
    """Receive events in a thread while the block runs, each exactly once and in order.

    What an observer raises is raised after the block; training is not stopped by it.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    failures: list[Exception] = []

    def listen() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                event = receiver.recv()
                if not failures:
                    try:
                        observers.send(event)
                    except Exception as error:
                        failures.append(error)

    listener = threading.Thread(target=listen, name="openset-events", daemon=True)
    listener.start()
    wants = tuple(dict.fromkeys(kind for member in observers.members for kind in member.wants))
    try:
        yield Relay(sender, wants)
    finally:
        sender.close()  # the workers' copies went with them; the listener comes to the end
        listener.join()
        receiver.close()
    if failures:
        raise failures[0]
