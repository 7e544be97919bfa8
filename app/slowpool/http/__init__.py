"""HTTP/1.1: requests for Tornado's own interfaces, and their answers.

server.py          has the connections
listeners.py       accepts them, and stops without a reset
connection.py      one connection: reads requests, one after the other
head.py            the start line and the headers, read by llhttp
body.py            where a body ends
answer.py          what Tornado calls the connection of a request
peer.py            what Tornado calls its context: the client
detached.py        a connection that no longer speaks HTTP, for WebSockets
turns.py           lets the event loop go on between two requests
tornado_server.py  Tornado's own server instead (HTTP_SERVER=tornado)

guard.py           headers in which a client claims an address or scheme
forms.py           forms whose parsing would hold up the event loop
request.py         the id of a request
"""
