"""For the tour of https.md: what happens to many open connections while a command runs.

python3 sessions.py HOST PORT COUNT CA COMMAND...
"""

import hashlib
import http.client
import ssl
import subprocess
import sys


def ask(connection):
    """Ask once more on a connection that is open already; how it went."""
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    return answer.status


def shown(connection):
    """The certificate that this connection was shown, in short."""
    return hashlib.sha256(connection.sock.getpeercert(binary_form=True)).hexdigest()[:8]


def main(host, port, count, ca, *command):
    context = ssl.create_default_context(cafile=ca)

    def connect():
        connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=60)
        connection.connect()
        connection.auto_open = False  # once it is closed, asking is an error
        return connection

    connections = [connect() for _ in range(int(count))]
    before = shown(connections[0])
    print(f"{[ask(one) for one in connections].count(200)} of {count} answered", flush=True)
    subprocess.run(command, check=True)
    print(f"{[ask(one) for one in connections].count(200)} of {count} answered again")
    print("who comes now is shown", "the same" if shown(connect()) == before else "another certificate")


main(*sys.argv[1:])
