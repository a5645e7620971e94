"""Connections to hosts outside, through proxies and with verified certificates: TCP, TLS, HTTP and websockets."""
