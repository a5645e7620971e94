/** The words of what an operator may ask for. */

import type { Dictionary } from "../language";

const en = {
  title: "Operate",
  intro: "These need the admin token. It is used for one request and forgotten.",
  refresh: "Read symbols again",
  backfill: "Backfill…",
  verify: "Verify…",
  symbols: "Symbols, separated by commas",
  intervals: "Intervals",
  start: "From (UTC)",
  end: "To (UTC), not included",
  token: "Admin token",
  tokenHelp: "ADMIN_TOKEN of the node, or what stands in the file .token beside its database.",
  send: "Send",
  cancel: "Cancel",
  sending: "Sending…",
  close: "Close",
  done: "Done",
  refused: "Not done",
  nothingNew: "The list was read. Nothing was added or removed.",
  changed: (added: string, removed: string) => `The list was read. Added: ${added || "–"}. Removed: ${removed || "–"}.`,
  taken: "The node has taken it on; the list of jobs shows how far it is.",
};

const zh: typeof en = {
  title: "操作",
  intro: "以下操作需要管理令牌。令牌只用于一次请求，随即丢弃。",
  refresh: "重新读取交易对",
  backfill: "回补…",
  verify: "核对…",
  symbols: "交易对，用逗号分隔",
  intervals: "周期",
  start: "起（UTC）",
  end: "止（UTC，不含）",
  token: "管理令牌",
  tokenHelp: "节点的 ADMIN_TOKEN，或数据库旁 .token 文件的内容。",
  send: "发送",
  cancel: "取消",
  sending: "发送中…",
  close: "关闭",
  done: "已完成",
  refused: "未完成",
  nothingNew: "列表已读取，没有增减。",
  changed: (added, removed) => `列表已读取。新增：${added || "–"}。移除：${removed || "–"}。`,
  taken: "节点已接受，进度见任务列表。",
};

export const adminWords: Dictionary<typeof en> = { en, zh };
