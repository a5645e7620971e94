CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE kline_1m (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE kline_3m (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE kline_5m (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE kline_15m (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE kline_30m (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE kline_1h (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE kline_2h (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE kline_4h (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE kline_6h (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE kline_8h (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE kline_12h (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE kline_1d (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE kline_3d (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE kline_1w (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE kline_1mo (
    symbol TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL,
    PRIMARY KEY (symbol, open_time)
) WITHOUT ROWID;
CREATE TABLE ledger (
    symbol TEXT NOT NULL,
    interval TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    source TEXT NOT NULL,
    PRIMARY KEY (symbol, interval, start_ms),
    CONSTRAINT ledger_span CHECK (start_ms < end_ms)
) WITHOUT ROWID;
CREATE TABLE revision (
    id INTEGER NOT NULL PRIMARY KEY,
    symbol TEXT NOT NULL,
    interval TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL,
    old_source TEXT NOT NULL,
    new_source TEXT NOT NULL,
    replaced_at_ms INTEGER NOT NULL
);
CREATE INDEX revision_by_series ON revision (symbol, interval, open_time);
CREATE TABLE stand_down (
    id INTEGER NOT NULL PRIMARY KEY,
    until_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    CONSTRAINT stand_down_single CHECK (id = 1)
);
CREATE TABLE document (
    name TEXT NOT NULL PRIMARY KEY,
    body BLOB NOT NULL,
    stored_ms INTEGER NOT NULL
);
CREATE TABLE anchor (
    symbol TEXT NOT NULL PRIMARY KEY,
    open_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE extra_wish (
    symbol TEXT NOT NULL,
    interval TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    PRIMARY KEY (symbol, interval),
    CONSTRAINT extra_wish_span CHECK (start_ms < end_ms)
) WITHOUT ROWID;
CREATE TABLE verification (
    symbol TEXT NOT NULL,
    interval TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    verified_at_ms INTEGER NOT NULL,
    PRIMARY KEY (symbol, interval, start_ms),
    CONSTRAINT verification_span CHECK (start_ms < end_ms)
) WITHOUT ROWID;
CREATE TABLE disagreement (
    symbol TEXT NOT NULL,
    interval TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    other TEXT NOT NULL,
    ours TEXT NOT NULL,
    theirs TEXT NOT NULL,
    seen_ms INTEGER NOT NULL,
    PRIMARY KEY (symbol, interval, open_time, other)
) WITHOUT ROWID;
CREATE TABLE change (
    seq INTEGER NOT NULL PRIMARY KEY,
    symbol TEXT NOT NULL,
    interval TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL
);
CREATE TABLE listing (
    symbol TEXT NOT NULL PRIMARY KEY,
    onboard_ms INTEGER NOT NULL,
    delivery_ms INTEGER NOT NULL,
    price_precision INTEGER NOT NULL,
    quantity_precision INTEGER NOT NULL,
    since_ms INTEGER NOT NULL,
    is_doubted INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE former_listing (
    symbol TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    onboard_ms INTEGER NOT NULL,
    delivery_ms INTEGER NOT NULL,
    price_precision INTEGER NOT NULL,
    quantity_precision INTEGER NOT NULL,
    PRIMARY KEY (symbol, until_ms)
) WITHOUT ROWID;
CREATE TABLE former_kline (
    symbol TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    interval TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL,
    PRIMARY KEY (symbol, until_ms, interval, open_time)
) WITHOUT ROWID;
CREATE TABLE former_ledger (
    symbol TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    interval TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    source TEXT NOT NULL,
    PRIMARY KEY (symbol, until_ms, interval, start_ms)
) WITHOUT ROWID;
CREATE TABLE writer (id INTEGER NOT NULL PRIMARY KEY, epoch INTEGER NOT NULL);
CREATE TABLE block (id INTEGER NOT NULL PRIMARY KEY, symbol TEXT NOT NULL, interval TEXT NOT NULL, start_ms INTEGER NOT NULL, rows INTEGER NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, sha256 BLOB NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX block_of_series ON block (symbol, interval, start_ms);
CREATE TABLE open_interest_5m (symbol TEXT NOT NULL, open_time INTEGER NOT NULL, sum_open_interest TEXT, sum_open_interest_value TEXT, cmc_circulating_supply TEXT, PRIMARY KEY (symbol, open_time)) WITHOUT ROWID;
CREATE TABLE open_interest_revision (id INTEGER NOT NULL PRIMARY KEY, symbol TEXT NOT NULL, interval TEXT NOT NULL, open_time INTEGER NOT NULL, sum_open_interest TEXT, sum_open_interest_value TEXT, cmc_circulating_supply TEXT, old_source TEXT NOT NULL, new_source TEXT NOT NULL, replaced_at_ms INTEGER NOT NULL);
CREATE INDEX open_interest_revision_by_series ON open_interest_revision (symbol, interval, open_time);
CREATE TABLE former_open_interest (symbol TEXT NOT NULL, until_ms INTEGER NOT NULL, interval TEXT NOT NULL, open_time INTEGER NOT NULL, sum_open_interest TEXT, sum_open_interest_value TEXT, cmc_circulating_supply TEXT, PRIMARY KEY (symbol, until_ms, interval, open_time)) WITHOUT ROWID;
CREATE TABLE top_account_ratio_5m (symbol TEXT NOT NULL, open_time INTEGER NOT NULL, long_short_ratio TEXT, long_account TEXT, short_account TEXT, PRIMARY KEY (symbol, open_time)) WITHOUT ROWID;
CREATE TABLE top_account_ratio_revision (id INTEGER NOT NULL PRIMARY KEY, symbol TEXT NOT NULL, interval TEXT NOT NULL, open_time INTEGER NOT NULL, long_short_ratio TEXT, long_account TEXT, short_account TEXT, old_source TEXT NOT NULL, new_source TEXT NOT NULL, replaced_at_ms INTEGER NOT NULL);
CREATE INDEX top_account_ratio_revision_by_series ON top_account_ratio_revision (symbol, interval, open_time);
CREATE TABLE former_top_account_ratio (symbol TEXT NOT NULL, until_ms INTEGER NOT NULL, interval TEXT NOT NULL, open_time INTEGER NOT NULL, long_short_ratio TEXT, long_account TEXT, short_account TEXT, PRIMARY KEY (symbol, until_ms, interval, open_time)) WITHOUT ROWID;
CREATE TABLE top_position_ratio_5m (symbol TEXT NOT NULL, open_time INTEGER NOT NULL, long_short_ratio TEXT, long_account TEXT, short_account TEXT, PRIMARY KEY (symbol, open_time)) WITHOUT ROWID;
CREATE TABLE top_position_ratio_revision (id INTEGER NOT NULL PRIMARY KEY, symbol TEXT NOT NULL, interval TEXT NOT NULL, open_time INTEGER NOT NULL, long_short_ratio TEXT, long_account TEXT, short_account TEXT, old_source TEXT NOT NULL, new_source TEXT NOT NULL, replaced_at_ms INTEGER NOT NULL);
CREATE INDEX top_position_ratio_revision_by_series ON top_position_ratio_revision (symbol, interval, open_time);
CREATE TABLE former_top_position_ratio (symbol TEXT NOT NULL, until_ms INTEGER NOT NULL, interval TEXT NOT NULL, open_time INTEGER NOT NULL, long_short_ratio TEXT, long_account TEXT, short_account TEXT, PRIMARY KEY (symbol, until_ms, interval, open_time)) WITHOUT ROWID;
CREATE TABLE account_ratio_5m (symbol TEXT NOT NULL, open_time INTEGER NOT NULL, long_short_ratio TEXT, long_account TEXT, short_account TEXT, PRIMARY KEY (symbol, open_time)) WITHOUT ROWID;
CREATE TABLE account_ratio_revision (id INTEGER NOT NULL PRIMARY KEY, symbol TEXT NOT NULL, interval TEXT NOT NULL, open_time INTEGER NOT NULL, long_short_ratio TEXT, long_account TEXT, short_account TEXT, old_source TEXT NOT NULL, new_source TEXT NOT NULL, replaced_at_ms INTEGER NOT NULL);
CREATE INDEX account_ratio_revision_by_series ON account_ratio_revision (symbol, interval, open_time);
CREATE TABLE former_account_ratio (symbol TEXT NOT NULL, until_ms INTEGER NOT NULL, interval TEXT NOT NULL, open_time INTEGER NOT NULL, long_short_ratio TEXT, long_account TEXT, short_account TEXT, PRIMARY KEY (symbol, until_ms, interval, open_time)) WITHOUT ROWID;
CREATE TABLE taker_ratio_5m (symbol TEXT NOT NULL, open_time INTEGER NOT NULL, buy_sell_ratio TEXT, sell_vol TEXT, buy_vol TEXT, PRIMARY KEY (symbol, open_time)) WITHOUT ROWID;
CREATE TABLE taker_ratio_revision (id INTEGER NOT NULL PRIMARY KEY, symbol TEXT NOT NULL, interval TEXT NOT NULL, open_time INTEGER NOT NULL, buy_sell_ratio TEXT, sell_vol TEXT, buy_vol TEXT, old_source TEXT NOT NULL, new_source TEXT NOT NULL, replaced_at_ms INTEGER NOT NULL);
CREATE INDEX taker_ratio_revision_by_series ON taker_ratio_revision (symbol, interval, open_time);
CREATE TABLE former_taker_ratio (symbol TEXT NOT NULL, until_ms INTEGER NOT NULL, interval TEXT NOT NULL, open_time INTEGER NOT NULL, buy_sell_ratio TEXT, sell_vol TEXT, buy_vol TEXT, PRIMARY KEY (symbol, until_ms, interval, open_time)) WITHOUT ROWID;
CREATE VIEW futures_metrics_5m AS SELECT times.symbol AS symbol, times.open_time AS open_time, open_interest_5m.sum_open_interest AS sum_open_interest, open_interest_5m.sum_open_interest_value AS sum_open_interest_value, open_interest_5m.cmc_circulating_supply AS cmc_circulating_supply, top_account_ratio_5m.long_short_ratio AS top_account_ratio_long_short_ratio, top_account_ratio_5m.long_account AS top_account_ratio_long_account, top_account_ratio_5m.short_account AS top_account_ratio_short_account, top_position_ratio_5m.long_short_ratio AS top_position_ratio_long_short_ratio, top_position_ratio_5m.long_account AS top_position_ratio_long_account, top_position_ratio_5m.short_account AS top_position_ratio_short_account, account_ratio_5m.long_short_ratio AS account_ratio_long_short_ratio, account_ratio_5m.long_account AS account_ratio_long_account, account_ratio_5m.short_account AS account_ratio_short_account, taker_ratio_5m.buy_sell_ratio AS buy_sell_ratio, taker_ratio_5m.sell_vol AS sell_vol, taker_ratio_5m.buy_vol AS buy_vol FROM (SELECT substr(symbol, 1, instr(symbol, '@') - 1) AS symbol, open_time FROM open_interest_5m UNION SELECT substr(symbol, 1, instr(symbol, '@') - 1) AS symbol, open_time FROM top_account_ratio_5m UNION SELECT substr(symbol, 1, instr(symbol, '@') - 1) AS symbol, open_time FROM top_position_ratio_5m UNION SELECT substr(symbol, 1, instr(symbol, '@') - 1) AS symbol, open_time FROM account_ratio_5m UNION SELECT substr(symbol, 1, instr(symbol, '@') - 1) AS symbol, open_time FROM taker_ratio_5m) AS times LEFT JOIN open_interest_5m ON open_interest_5m.symbol = times.symbol || '@openInterestHist' AND open_interest_5m.open_time = times.open_time LEFT JOIN top_account_ratio_5m ON top_account_ratio_5m.symbol = times.symbol || '@topLongShortAccountRatio' AND top_account_ratio_5m.open_time = times.open_time LEFT JOIN top_position_ratio_5m ON top_position_ratio_5m.symbol = times.symbol || '@topLongShortPositionRatio' AND top_position_ratio_5m.open_time = times.open_time LEFT JOIN account_ratio_5m ON account_ratio_5m.symbol = times.symbol || '@globalLongShortAccountRatio' AND account_ratio_5m.open_time = times.open_time LEFT JOIN taker_ratio_5m ON taker_ratio_5m.symbol = times.symbol || '@takerlongshortRatio' AND taker_ratio_5m.open_time = times.open_time;
CREATE TABLE funding_1h (symbol TEXT NOT NULL, open_time INTEGER NOT NULL, funding_rate TEXT NOT NULL, mark_price TEXT, rate_type TEXT, PRIMARY KEY (symbol, open_time)) WITHOUT ROWID;
CREATE TABLE funding_revision (id INTEGER NOT NULL PRIMARY KEY, symbol TEXT NOT NULL, interval TEXT NOT NULL, open_time INTEGER NOT NULL, funding_rate TEXT NOT NULL, mark_price TEXT, rate_type TEXT, old_source TEXT NOT NULL, new_source TEXT NOT NULL, replaced_at_ms INTEGER NOT NULL);
CREATE INDEX funding_revision_by_series ON funding_revision (symbol, interval, open_time);
CREATE TABLE former_funding (symbol TEXT NOT NULL, until_ms INTEGER NOT NULL, interval TEXT NOT NULL, open_time INTEGER NOT NULL, funding_rate TEXT NOT NULL, mark_price TEXT, rate_type TEXT, PRIMARY KEY (symbol, until_ms, interval, open_time)) WITHOUT ROWID;
CREATE VIEW funding_rate AS SELECT substr(symbol, 1, instr(symbol, '@') - 1) AS symbol, open_time + 3540000 AS funding_time, funding_rate, mark_price, rate_type FROM funding_1h;
CREATE TABLE ledger_log (seq INTEGER NOT NULL PRIMARY KEY, at_ms INTEGER NOT NULL, is_whole INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX ledger_log_whole ON ledger_log (seq) WHERE is_whole = 1;
CREATE TABLE relisting (symbol TEXT NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (symbol, at_ms)) WITHOUT ROWID;
INSERT INTO alembic_version VALUES ('0009');
