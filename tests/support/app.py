"""An app for ``harbor run`` to run: says who it is, echoes, and behaves badly if asked to. It starts fast.

--udp            datagrams instead of connections
--deaf           SIGTERM does nothing
--linger FILE    after SIGTERM it ends when FILE is there
--after FILE     it listens when FILE is there
--worker         a child does it all, and the process that was started only waits
--escape         a child in a session of its own idles beside it
"""

import os
import select
import signal
import socket
import sys
import time


def main() -> None:
    options = dict.fromkeys(sys.argv[1:], "") | dict(zip(sys.argv[1:], sys.argv[2:], strict=False))
    print("args", *sys.argv[1:], flush=True)
    if "--escape" in options and os.fork() == 0:
        os.setsid()
        print("escaped", os.getpid(), flush=True)
        time.sleep(600)
    if "--worker" in options and os.fork() != 0:
        print("parent", os.getpid(), flush=True)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        os.wait()
        os._exit(0)
    signal.signal(signal.SIGTERM, lambda *_: on_term(options))
    while "--after" in options and not os.path.exists(options["--after"]):
        time.sleep(0.01)
    serve_datagrams() if "--udp" in options else serve_connections()


def on_term(options: dict[str, str]) -> None:
    print("got SIGTERM", flush=True)
    if "--deaf" in options:
        return
    while "--linger" in options and not os.path.exists(options["--linger"]):
        time.sleep(0.01)
    print("ends in order", flush=True)
    os._exit(0)


def name() -> bytes:
    return f"{os.environ['HARBOR_INSTANCE']} {os.getpid()}\n".encode()


def serve_connections() -> None:
    """Greets with its name, then echoes; one thread is enough for a test."""
    listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=128)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    clients: dict[int, socket.socket] = {}
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                client, _ = listener.accept()
                client.sendall(name())
                clients[client.fileno()] = client
                poll.register(client, select.POLLIN)
                continue
            try:
                data = clients[descriptor].recv(65536)
                if data:
                    clients[descriptor].sendall(data)
                    continue
            except OSError:
                pass
            poll.unregister(descriptor)
            clients.pop(descriptor).close()


def serve_datagrams() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", int(os.environ["STACKATO_HARBOR"])))
        while True:
            data, client = sock.recvfrom(65536)
            sock.sendto(name() + data, client)


if __name__ == "__main__":
    main()
