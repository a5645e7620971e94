// binance for Node.js: klines, ticker, book and funding, and a kline stream across a close. `client`, `newSocket`: the page's.
const { raw, same, closed, still, within, ID } = require(process.env.HELPERS);

async function check() {
  await shown;
  const rows = await closed(300);
  same(await client.getKlines({ symbol: ID, interval: "1m", startTime: rows[0][0], limit: 300 }), rows, "klines");
  const info = await client.getExchangeInfo();
  same(info.symbols.map((each) => each.symbol), (await raw("/fapi/v1/exchangeInfo")).symbols.map((each) => each.symbol), "symbols");
  const [book, mine] = await still("/fapi/v1/depth", { symbol: ID, limit: 10 }, () => client.getOrderBook({ symbol: ID, limit: 10 }));
  same([mine.bids, mine.asks], [book.bids, book.asks], "book");
  const [row, ticker] = await still("/fapi/v1/ticker/24hr", { symbol: ID }, () => client.get24hrChangeStatistics({ symbol: ID }));
  same([String(ticker.count), String(Number(ticker.volume))], [String(row.count), String(Number(row.volume))], "ticker");
  const events = await raw("/fapi/v1/fundingRate", { symbol: ID, limit: 20 });
  const history = await client.getFundingRateHistory({ symbol: ID, limit: 20 });
  same(history.map((each) => each.fundingTime), events.map((each) => each.fundingTime), "funding");
  const socket = newSocket();
  const kline = await within(
    new Promise((resolve) => {
      socket.on("message", (event) => event.k && event.k.x && resolve(event.k));
      socket.subscribe([`${ID.toLowerCase()}@kline_1m`], "usdmMarket");
    })
  );
  const [last] = await raw("/fapi/v1/klines", { symbol: ID, interval: "1m", startTime: kline.t, limit: 1 });
  same([..."tohlcvTqnVQ"].map((name) => kline[name]), last.slice(0, 11), "closed kline");
  socket.closeAll(true);
}
