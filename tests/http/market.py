"""What the tests of market data beside klines share."""

DEPTH = "/fapi/v1/depth?symbol=BTCUSDT"
LARGE = b'{"a":"%b"}' % (b"0123456789" * 500)
