"""The transport for plain GETs in great number: connections of our own, to servers that libcurl has reached before.

With hundreds of transfers under way, libcurl's bookkeeping costs more than the transfers: it looks at each of them in
each turn, and at each connection for one that is free. Still libcurl comes first: it reaches a server, with all that
this takes (names, proxies, several addresses), and only what went well is repeated here. What is not a plain answer
to a plain question goes back to libcurl.
"""
