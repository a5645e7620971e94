/** The node's API: relative to the page, so that it works behind a prefix; keys and tokens stay in memory. */

const PATIENCE_MS = 20_000; // longer than the node lets any answer take

/** An answer that is not 2xx, or none at all (status 0). The message is the node's own. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly reason: string | null = null,
  ) {
    super(message);
  }
}

export interface Api {
  /** The JSON at `path` (without a leading slash). Throws ApiError; DOMException (AbortError) when `signal` aborts. */
  get<Answer>(path: string, query?: Query, signal?: AbortSignal): Promise<Answer>;
  /** The same, and the response's headers. */
  read(path: string, query?: Query, signal?: AbortSignal): Promise<Response>;
  /** One request of an operator; the token is used for it and forgotten. */
  admin<Answer>(method: "POST" | "DELETE", path: string, token: string, body?: unknown): Promise<Answer>;
  /** The address of a socket of the node, such as "ws" or "stream". */
  socket(path: string, query?: Query): URL;
  /** Ask for the API key, also after the dialog was cancelled before. */
  askForKey(message: string): Promise<void>;
  /** Whether an API key was entered: browsers send no headers with a socket's handshake, so poll instead. */
  hasKey(): boolean;
}

export type Query = Record<string, string | number | boolean | null | undefined>;

/** Asks for an API key; null: none was given. */
export type AskForKey = (message: string) => Promise<string | null>;

/** The API beside the page. `askForKey` is called when the node refuses a request for want of a key. */
export function createApi(askForKey: AskForKey): Api {
  let key: string | null = null;
  let asked: Promise<void> | null = null; // one dialog, however many requests are refused
  let isDeclined = false; // pages poll: the dialog does not come again by itself

  async function send(path: string, query: Query, init: RequestInit, mayAsk: boolean): Promise<Response> {
    const usedKey = key;
    const headers = new Headers(init.headers);
    if (usedKey !== null) headers.set("X-MBX-APIKEY", usedKey);
    const late = AbortSignal.timeout(PATIENCE_MS);
    const signal = init.signal ? AbortSignal.any([init.signal, late]) : late;
    let response: Response;
    try {
      response = await fetch(address(path, query), { credentials: "same-origin", ...init, headers, signal });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw new ApiError(0, late.aborted ? "The node does not answer." : "The node cannot be reached.");
    }
    if (response.ok) return response;
    const message = await messageOf(response);
    if (response.status === 401 && mayAsk && !isDeclined) {
      if (usedKey === key) await renew(message);
      if (usedKey !== key) return send(path, query, init, true);
    }
    throw new ApiError(response.status, message, response.headers.get("X-Klinenode-Reason"));
  }

  function renew(message: string): Promise<void> {
    asked ??= askForKey(message)
      .then((entered) => {
        isDeclined = entered === null;
        key = entered ?? key;
      })
      .finally(() => (asked = null));
    return asked;
  }

  const read: Api["read"] = (path, query = {}, signal) => send(path, query, signal ? { signal } : {}, true);
  return {
    read,
    async get(path, query, signal) {
      return (await read(path, query, signal)).json();
    },
    async admin(method, path, token, body) {
      const headers: Record<string, string> = { Authorization: `Bearer ${token}` };
      if (body !== undefined) headers["Content-Type"] = "application/json";
      const init: RequestInit = { method, headers };
      if (body !== undefined) init.body = JSON.stringify(body);
      return (await send(path, {}, init, false)).json();
    },
    socket(path, query = {}) {
      const url = address(path, query);
      url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
      return url;
    },
    askForKey: renew,
    hasKey: () => key !== null,
  };
}

function address(path: string, query: Query): URL {
  const url = new URL(path, document.baseURI);
  url.hash = "";
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined) url.searchParams.set(name, String(value));
  }
  return url;
}

async function messageOf(response: Response): Promise<string> {
  const text = await response.text();
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body !== null) {
      if ("error" in body) return String(body.error); // the node's own routes
      if ("msg" in body) return String(body.msg); // Binance's
    }
  } catch {
    return text.slice(0, 500) || response.statusText; // a proxy's page
  }
  return text.slice(0, 500) || response.statusText;
}
