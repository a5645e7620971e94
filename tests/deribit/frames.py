"""Frames and answers as Deribit writes them: numbers are JSON numbers."""

from app.deribit.venue import DeribitVenue
from app.domain.instrument import Instrument, Market, Unit

INVERSE = Instrument("deribit", Market.SWAP, "BTC-USD", "BTC-PERPETUAL", Unit.USD, is_inverse=True)
FUTURE = Instrument("deribit", Market.FUTURE, "BTC-USD-261225", "BTC-25DEC26", Unit.USD, is_inverse=True)
LINEAR = Instrument("deribit", Market.SWAP, "BTC-USDC", "BTC_USDC-PERPETUAL")
SPOT = Instrument("deribit", Market.SPOT, "BTC-USDC", "BTC_USDC")
ALL = (INVERSE, FUTURE, LINEAR, SPOT)


def venue() -> DeribitVenue:
    deribit = DeribitVenue()
    deribit.learn(ALL)
    return deribit


def push(channel: str, data: str) -> bytes:
    return f'{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{channel}","data":{data}}}}}'.encode()


def answer(result: str, sent_us: int = 1_798_000_000_000_000) -> bytes:
    return f'{{"jsonrpc":"2.0","result":{result},"usIn":{sent_us - 99},"usOut":{sent_us},"testnet":false}}'.encode()


def trade(number: int, price: str = "62500.0", amount: str = "170.0", direction: str = "buy") -> str:
    return (
        f'{{"timestamp":{1_798_000_000_000 + number},"price":{price},"direction":"{direction}","index_price":77504.36,'
        f'"instrument_name":"x","trade_seq":{number},"amount":{amount},"mark_price":77529.76,"tick_direction":3,'
        f'"trade_id":"t{number}","contracts":17.0}}'
    )
