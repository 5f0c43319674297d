"""For the tour of https.md: a WebSocket that says everything back in capitals, and a page that talks to it.

python3 chat.py PORT            serves both
python3 chat.py URL CA WORDS    says something, and prints what comes back
"""

import ssl
import sys
from http import HTTPStatus

from websockets.sync.client import connect
from websockets.sync.server import serve

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Chat</title></head><body>...<script>
const socket = new WebSocket(`wss://${location.host}/talk`);
socket.onopen = () => socket.send("heard over a WebSocket");
socket.onmessage = (message) => { document.title = document.body.textContent = message.data; };
</script></body></html>
"""


def page(connection, request):
    """What a browser gets that asks for the page; None if it comes to talk."""
    if request.path == "/talk":
        return None
    response = connection.respond(HTTPStatus.OK, PAGE)
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "text/html; charset=utf-8"
    return response


def talk(socket):
    for said in socket:
        socket.send(said.upper())


def say(url, ca, words):
    with connect(url, ssl=ssl.create_default_context(cafile=ca)) as socket:
        socket.send(words)
        print(socket.recv())


if sys.argv[1].isdigit():
    serve(talk, "127.0.0.1", int(sys.argv[1]), process_request=page).serve_forever()
else:
    say(*sys.argv[1:])
