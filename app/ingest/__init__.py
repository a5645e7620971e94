"""What sockets bring as it happens: live klines, longer ones rolled up from them, and what contradicts them."""
