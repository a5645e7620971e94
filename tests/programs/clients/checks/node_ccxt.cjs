// ccxt for Node.js: markets, klines, ticker, book and funding, and watchOHLCV across a close. `newExchange` is the page's.
const { raw, same, closed, still, floats, levels, within, ID } = require(process.env.HELPERS);

async function check() {
  await shown;
  const exchange = await newExchange();
  const BTC = "BTC/USDT:USDT";
  await exchange.loadMarkets();
  same(exchange.market(BTC).id, ID, "market id");
  const rows = await closed(600);
  const paged = [];
  while (paged.length < rows.length) {
    paged.push(...(await exchange.fetchOHLCV(BTC, "1m", rows[paged.length][0], Math.min(250, rows.length - paged.length))));
  }
  same(paged, rows.map(floats), "klines");
  const [book, mine] = await still("/fapi/v1/depth", { symbol: ID, limit: 20 }, () => exchange.fetchOrderBook(BTC, 20));
  same([mine.bids, mine.asks], [levels(book.bids), levels(book.asks)], "book");
  const [row, ticker] = await still("/fapi/v1/ticker/24hr", { symbol: ID }, () => exchange.fetchTicker(BTC));
  same([ticker.last, ticker.baseVolume], [Number(row.lastPrice), Number(row.volume)], "ticker");
  const events = await raw("/fapi/v1/fundingRate", { symbol: ID, limit: 20 });
  const history = await exchange.fetchFundingRateHistory(BTC, events[0].fundingTime, 20);
  same(history.map((each) => [each.timestamp, each.fundingRate]), events.map((each) => [each.fundingTime, Number(each.fundingRate)]), "funding");
  let candles = await within(exchange.watchOHLCV(BTC, "1m"));
  const open = candles[candles.length - 1][0];
  while (candles[candles.length - 1][0] === open) candles = await within(exchange.watchOHLCV(BTC, "1m"));
  const [last] = await raw("/fapi/v1/klines", { symbol: ID, interval: "1m", startTime: open, limit: 1 });
  same(exchange.ohlcvs[BTC]["1m"].find((each) => each[0] === open), floats(last), "closed kline");
  await exchange.close();
}
