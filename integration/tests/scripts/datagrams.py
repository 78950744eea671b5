"""Datagrams between network namespaces. `serve ADDRESS` answers each with the time to live that it came with;
`ask ADDRESS` prints the answer, or `nothing` if none comes."""

import socket
import sys

IP_RECVTTL = 12  # of <bits/in.h>; Python has no name for it

what, address = sys.argv[1:]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if what == "serve":
    udp.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
    udp.bind((address, 5000))
    print("serving", flush=True)
    while True:
        _, ancillary, _, sender = udp.recvmsg(100, 100)
        ttl = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
        udp.sendto(str(ttl).encode(), sender)
else:
    udp.settimeout(1)
    try:
        udp.sendto(b"?", (address, 5000))
        print(udp.recv(100).decode())
    except OSError:
        print("nothing")
