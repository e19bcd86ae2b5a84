// The live page: asks for counts each second and follows the feed. It keeps nothing but the token.

const WORDS = {
  zh: {
    search: "订单号或订单编号", find: "查询", city: "城市", allCities: "全部", road: "在途",
    atRisk: "超时风险", lastEvents: "最新事件", order: "订单", stage: "环节", tier: "时效",
    used: "已用承诺时间", left: "剩余", attempt: "第几家", time: "时间", service: "服务",
    event: "事件", pause: "暂停", resume: "继续", needToken: "请输入访问令牌",
    tokenHelp: "启动演示时终端会打印带令牌的网址；令牌只保存在本标签页。", enter: "进入",
    badToken: "令牌无效，或不是运营人员的令牌。", live: "实时", lost: "连接中断，正在重连…",
    paused: "已暂停", newer: "条新事件", nothing: "暂无", notFound: "没有找到该订单。",
    back: "← 返回总览", onTime: "准时率", late: "超时", delivered: "已送达",
    inFlight: "在途订单", orders: "订单总数", parked: "待人工处理", reviewDelayed: "审方超时", closedOther: "其他结束",
    counted: "统计在途订单与近 24 小时内结束的订单",
    number: "医院单号", patientClock: "患者时钟（提交→到门）",
    platformClock: "平台时钟（授权→到门）", due: "承诺时间", pharmacy: "药店", outcome: "结果",
    states: "各环节状态", timeline: "时间线", data: "内容", place: "主题 · 分区 · 位点",
    minutes: "分", seconds: "秒", overdue: "已超时", citywide: "全城", scheduled: "预约", pick_up: "自取", emergency: "急送",
    promiseLine: "承诺", keptUntil: "保留至", patientClockCounter: "患者时钟（提交→取药）",
    platformClockCounter: "平台时钟（授权→取药）",
    stages: {
      new: "新", issued: "已开具", in_review: "审方中", approved: "已过审", authorised: "已授权",
      offered: "派单中", assigned: "已接单", confirmed: "药师已核", sealed: "已封装",
      released: "待取件", on_the_road: "配送中", delivered: "已送达", closing: "结算中",
      closed: "已结束",
    },
    services: {
      prescription: "处方", review: "审方", claim: "医保", network: "药店网络",
      dispatch: "派单", delivery: "配送",
    },
    outcomes: {
      delivered: "已送达", rejected: "审方不通过", declined: "医保未通过", cancelled: "已取消",
      expired: "已过期", exhausted: "无药店可供", returned: "已退回", settlement_refused: "结算被拒",
    },
  },
  en: {
    search: "order id or the hospital's number", find: "Find", city: "City", allCities: "all",
    road: "On the way", atRisk: "At risk", lastEvents: "Last events", order: "Order",
    stage: "Stage", tier: "Tier", used: "Promise used", left: "Left", attempt: "Attempt",
    time: "Time", service: "Service", event: "Event", pause: "Pause", resume: "Resume",
    needToken: "Enter the access token",
    tokenHelp: "The demo prints an address with the token in it. It stays in this tab alone.",
    enter: "Enter", badToken: "This token is not valid, or not an operator's.", live: "live",
    lost: "connection lost, trying again…", paused: "paused", newer: "new",
    nothing: "nothing here", notFound: "There is no such order.", back: "← Overview",
    onTime: "On time", late: "Late", delivered: "Delivered", inFlight: "In flight",
    orders: "Orders", parked: "Need a person", reviewDelayed: "Review too slow", closedOther: "Ended otherwise",
    counted: "Counted: open orders and those that ended in the last 24 hours",
    number: "Hospital's number", patientClock: "Patient's clock (submitted → door)",
    platformClock: "Platform's clock (authorised → door)", due: "Promised for",
    pharmacy: "Pharmacy", outcome: "Outcome", states: "State by service", timeline: "Timeline",
    data: "content", place: "topic · partition · offset", minutes: "min", seconds: "s",
    overdue: "overdue", citywide: "citywide", scheduled: "by appointment", pick_up: "collection", emergency: "emergency", promiseLine: "promise",
    keptUntil: "Kept until", patientClockCounter: "Patient's clock (submitted → counter)",
    platformClockCounter: "Platform's clock (authorised → counter)",
    stages: {
      new: "new", issued: "issued", in_review: "in review", approved: "approved",
      authorised: "authorised", offered: "offered", assigned: "assigned", confirmed: "confirmed",
      sealed: "sealed", released: "ready", on_the_road: "on the road", delivered: "delivered",
      closing: "closing", closed: "closed",
    },
    services: {
      prescription: "prescription", review: "review", claim: "claim", network: "network",
      dispatch: "dispatch", delivery: "delivery",
    },
    outcomes: {
      delivered: "delivered", rejected: "rejected", declined: "declined", cancelled: "cancelled",
      expired: "expired", exhausted: "no pharmacy", returned: "returned",
      settlement_refused: "settlement refused",
    },
  },
};
const ROAD = ["issued", "in_review", "authorised", "offered", "sealed", "on_the_road", "closing"];
const SERVICES = ["prescription", "review", "claim", "dispatch", "delivery"];
const EVENTS_SHOWN = 60;
// The same share from which the server counts an order as at risk.
const RISK_SHARE = 0.75;

const page = {
  token: "",
  language: sessionStorage.getItem("language") || (navigator.language.startsWith("zh") ? "zh" : "en"),
  city: sessionStorage.getItem("city") || "",
  paused: false,
  held: [],
  live: false,
  stream: null,
  drawn: 0,
};
const $ = (id) => document.getElementById(id);
const words = () => WORDS[page.language];

class Refused extends Error {
  constructor(status) {
    super(`status ${status}`);
    this.status = status;
  }
}

function ask(path, options = {}) {
  const headers = { Authorization: `Bearer ${page.token}`, ...options.headers };
  return fetch(path, { ...options, headers, cache: "no-store" });
}

async function get(path, query = {}) {
  const wanted = Object.entries(query).filter(([, value]) => value !== "");
  const answer = await ask(`${path}?${new URLSearchParams(wanted)}`);
  if (!answer.ok) throw new Refused(answer.status);
  return answer.json();
}

// Elements are made, never parsed: what a partner wrote can only ever be text.
function make(tag, options = {}, ...children) {
  const { data = {}, ...rest } = options;
  const node = Object.assign(document.createElement(tag), rest);
  Object.assign(node.dataset, data);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const fill = (node, ...children) => node.replaceChildren(...children);
const short = (id) => (id || "").slice(-12);
const percent = (share) => (share === null || share === undefined ? "–" : `${(share * 100).toFixed(1)} %`);
const clockTime = (text) => (text ? new Date(text).toLocaleTimeString([], { hour12: false }) : "–");
const tierName = (tier) => (/^\d+$/.test(tier) ? `${tier} ${words().minutes}` : words()[tier] || tier || "–");

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const whole = Math.round(Math.abs(seconds));
  const parts = [Math.floor(whole / 60), whole % 60].map((part) => String(part).padStart(2, "0"));
  return `${seconds < 0 ? "−" : ""}${parts.join(":")}`;
}

function label() {
  document.documentElement.lang = page.language === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = words()[node.dataset.text];
  for (const node of document.querySelectorAll("[data-hint]")) {
    node.placeholder = words()[node.dataset.hint];
    node.setAttribute("aria-label", words()[node.dataset.hint]);
  }
  $("language").textContent = page.language === "zh" ? "EN" : "中文";
  labelPause();
  showLive();
}

function labelPause() {
  const waiting = page.held.length ? ` (${page.held.length} ${words().newer})` : "";
  $("pause").textContent = page.paused ? words().resume + waiting : words().pause;
}

function showLive() {
  $("live").className = page.live ? "on" : "";
  $("live").lastElementChild.textContent = page.live ? words().live : words().lost;
}

// ---- the tower

function tile(name, value, late = false) {
  return make("div", { className: late ? "tile late" : "tile" }, make("b", { textContent: value }), make("span", { textContent: words()[name] }));
}

function drawSummary(body) {
  const ended = Object.entries(body.closed).filter(([name]) => name !== "delivered");
  fill(
    $("tiles"),
    tile("onTime", percent(body.on_time_share)),
    tile("late", body.late, body.late > 0),
    tile("atRisk", body.at_risk),
    tile("inFlight", body.in_flight),
    tile("delivered", body.delivered),
    tile("closedOther", ended.reduce((sum, [, count]) => sum + count, 0)),
    tile("orders", body.orders),
    tile("parked", body.parked),
    tile("reviewDelayed", body.review_delayed, body.review_delayed > 0),
  );
  const most = Math.max(1, ...ROAD.map((name) => body[name]));
  fill($("road"), ...ROAD.map((name) => stop(words().stages[name], body[name], body[name] / most)));
}

function stop(name, count, share) {
  return make("li", {}, make("b", { textContent: count }), make("span", { textContent: name }), bar(share));
}

function bar(share, late = false) {
  const fillIn = make("i");
  fillIn.style.width = `${Math.min(100, Math.max(0, share * 100))}%`;
  return make("div", { className: late ? "bar late" : "bar" }, fillIn);
}

function drawRisk(body) {
  const now = new Date(body.now);
  const rows = body.orders.filter((order) => order.late || order.share_used >= RISK_SHARE);
  $("riskNote").textContent = rows.length ? `${rows.length}` : "";
  if (!rows.length) {
    fill($("risk"), make("tr", {}, make("td", { colSpan: 6, className: "empty", textContent: words().nothing })));
    return;
  }
  fill($("risk"), ...rows.map((order) => riskRow(order, now)));
}

function riskRow(order, now) {
  const left = (new Date(order.promised_at) - now) / 1000;
  const used = make(
    "td",
    { className: "used" },
    make("span", { className: order.late ? "late" : "", textContent: percent(order.share_used) }),
    bar(order.share_used, order.late),
  );
  const leftText = left < 0 ? `${duration(left)} ${words().overdue}` : duration(left);
  return link(
    order.order_id,
    make("td", { className: "mono", textContent: short(order.order_id), title: order.order_id }),
    make("td", { textContent: words().stages[order.place] || order.place }),
    make("td", { textContent: tierName(order.promised_tier || order.tier) }),
    used,
    make("td", { className: order.late ? "late" : "", textContent: leftText }),
    make("td", { textContent: order.attempt || "–" }),
  );
}

function link(orderId, ...cells) {
  const row = make("tr", { className: "link", tabIndex: 0 }, ...cells);
  const open = () => { location.hash = `order=${orderId}`; };
  row.addEventListener("click", open);
  row.addEventListener("keydown", (event) => { if (event.key === "Enter") open(); });
  return row;
}

function drawEvents(entries) {
  const rows = entries.map((entry) => {
    const [service, type] = entry.entry_type.split(".");
    return link(
      entry.subject,
      make("td", { textContent: clockTime(entry.at) }),
      make("td", { className: "soft", textContent: words().services[service] || service }),
      make("td", { textContent: type + note(entry.data) }),
      make("td", { className: "mono", textContent: short(entry.subject), title: entry.subject }),
    );
  });
  $("events").prepend(...rows.reverse());
  while ($("events").children.length > EVENTS_SHOWN) $("events").lastElementChild.remove();
}

// The one word that makes the fact understandable without opening it.
function note(data) {
  const said = data.outcome || data.result || data.reason || data.code || data.stage || "";
  const attempt = data.attempt ? ` #${data.attempt}` : "";
  return typeof said === "string" && said ? `${attempt} · ${said}` : attempt;
}

async function refresh() {
  if (document.hidden || $("tower").hidden) return;
  let answers;
  try {
    answers = await Promise.all([
      get("v1/summary", { city: page.city }),
      get("v1/at-risk", { city: page.city, limit: 50 }),
    ]);
  } catch (error) {
    // A server that is away for a moment is asked again; the live sign says so meanwhile.
    if (error instanceof Refused && (error.status === 401 || error.status === 403)) askToken(words().badToken);
    return;
  }
  drawSummary(answers[0]);
  drawRisk(answers[1]);
}

// ---- the feed

async function follow() {
  let cursor = "";
  const mine = new AbortController();
  page.stream?.abort();
  page.stream = mine;
  while (!mine.signal.aborted) {
    try {
      const query = cursor ? `after=${cursor}` : `back=${EVENTS_SHOWN}`;
      const answer = await ask(`v1/stream?${query}`, { headers: { Accept: "text/event-stream" }, signal: mine.signal });
      if (!answer.ok) throw new Refused(answer.status);
      page.live = true;
      showLive();
      await readStream(answer.body, (id, entry) => {
        cursor = id;
        take(entry);
      });
    } catch (error) {
      if (mine.signal.aborted || (error instanceof Refused && error.status === 401)) return;
    }
    page.live = false;
    showLive();
    await new Promise((done) => setTimeout(done, 1000));
  }
}

async function readStream(body, each) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (text + value).split(/\r?\n\r?\n/);
    text = parts.pop();
    for (const part of parts) {
      const fields = Object.fromEntries(part.split(/\r?\n/).map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]));
      if (fields.id && fields.data) each(fields.id, JSON.parse(fields.data));
    }
  }
}

let arrived = [];
function take(entry) {
  if (page.paused) {
    page.held = [...page.held, entry].slice(-EVENTS_SHOWN);
    labelPause();
    return;
  }
  // Many facts may come at once: the table is drawn once a frame at most.
  if (!arrived.length) requestAnimationFrame(() => { drawEvents(arrived.splice(0)); });
  arrived.push(entry);
}

// ---- one order

async function openOrder(id) {
  try {
    drawOrder(await get(`v1/orders/${encodeURIComponent(id)}`));
  } catch (error) {
    if (!(error instanceof Refused)) return;
    fill($("order"), backLink(), make("p", { className: "empty", textContent: words().notFound }));
  }
}

function backLink() {
  return make("a", { href: "#", textContent: words().back });
}

function drawOrder(order) {
  const { patient, platform } = order.clocks;
  const outcome = order.outcome ? words().outcomes[order.outcome] : words().stages[order.stage];
  const tier = order.promised_tier || order.tier;
  // Who collects it comes to a counter, by the end of the time for which it is kept there.
  const collected = tier === "pick_up";
  const { late } = order;
  fill(
    $("order"),
    backLink(),
    make("h2", {}, make("span", { className: "mono", textContent: order.order_id }), make("span", { className: late ? "pill late" : "pill", textContent: late ? `${outcome} · ${words().late}` : outcome })),
    make(
      "div",
      { className: "cards" },
      card("number", order.order_number || "–"),
      card("tier", tierName(tier)),
      card(collected ? "patientClockCounter" : "patientClock", duration(patient.seconds)),
      card(collected ? "platformClockCounter" : "platformClock", `${duration(platform.seconds)} · ${percent(platform.share_used)}`),
      card(collected ? "keptUntil" : "due", clockTime(platform.due_at)),
      card("pharmacy", order.pharmacy_name || "–"),
    ),
    make("section", { className: "panel" }, make("h2", { textContent: words().states }), lanes(order, late)),
    make("section", { className: "panel" }, make("h2", { textContent: words().timeline }), timeline(order)),
  );
}

function card(name, value) {
  return make("div", { className: "card" }, make("span", { textContent: words()[name] }), make("b", { textContent: value }));
}

function lanes(order, late) {
  const due = order.clocks.platform.due_at ? [order.clocks.platform.due_at] : [];
  const times = [...order.timeline.map((fact) => fact.at), ...due].map((text) => new Date(text).getTime());
  const start = Math.min(...times);
  const span = Math.max(1, Math.max(...times) - start);
  const at = (text) => `${((new Date(text).getTime() - start) / span) * 98 + 1}%`;
  return make("div", { className: "lanes" }, ...SERVICES.map((service) => lane(order, service, at, due, late)));
}

function lane(order, service, at, due, late) {
  const facts = order.timeline.filter((fact) => fact.type.startsWith(`${service}.`));
  const track = make("div", { className: "track" });
  if (facts.length > 1) {
    const line = make("u");
    line.style.left = at(facts[0].at);
    line.style.right = `calc(100% - ${at(facts[facts.length - 1].at)})`;
    track.append(line);
  }
  for (const moment of due) {
    const mark = make("s", { className: late ? "late" : "", title: words().promiseLine });
    mark.style.left = at(moment);
    track.append(mark);
  }
  for (const fact of facts) {
    const dot = make("i", { title: `${fact.type} ${clockTime(fact.at)}` });
    dot.style.left = at(fact.at);
    track.append(dot);
  }
  const state = order.states[service];
  const name = make("span", { textContent: words().services[service], title: state ? state.state : "" });
  return make("div", { className: "lane" }, name, track, make("span", { textContent: state ? state.state : "–" }));
}

function timeline(order) {
  const start = new Date(order.submitted_at || order.timeline[0].at);
  const rows = order.timeline.map((fact) => {
    const [service, type] = fact.type.split(".");
    const body = make("details", {}, make("summary", { textContent: words().data }), make("pre", { className: "mono", textContent: JSON.stringify(fact.data, null, 1) }));
    return make(
      "tr",
      {},
      make("td", { textContent: clockTime(fact.at) }),
      make("td", { className: "soft", textContent: `+${duration((new Date(fact.at) - start) / 1000)}` }),
      make("td", { className: "soft", textContent: words().services[service] || service }),
      make("td", {}, type + note(fact.data), body),
      make("td", { className: "mono soft", textContent: `${fact.topic} · ${fact.part} · ${fact.record_offset}` }),
    );
  });
  const heads = [words().time, "", words().service, words().event, words().place];
  return make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { textContent: text })))), make("tbody", {}, ...rows));
}

// ---- ways in

function show(name) {
  for (const id of ["tower", "order", "door"]) $(id).hidden = id !== name;
}

function askToken(problem = "") {
  page.stream?.abort();
  page.token = "";
  sessionStorage.removeItem("token");
  document.querySelector("#token .problem").textContent = problem;
  show("door");
}

function route() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (asked.has("token")) {
    sessionStorage.setItem("token", asked.get("token"));
    page.token = "";
    // The token must not stay in the address, where it would be copied with it.
    history.replaceState(null, "", location.pathname);
  }
  const token = sessionStorage.getItem("token");
  if (!token) {
    askToken();
    return;
  }
  if (token !== page.token) {
    page.token = token;
    fill($("events"));
    follow();
  }
  if (asked.has("order")) {
    show("order");
    openOrder(asked.get("order"));
  } else {
    show("tower");
    refresh();
  }
}

async function search(text) {
  const wanted = text.trim();
  if (!wanted) return;
  if (/^[0-9a-f]{8}-[0-9a-f-]{27}$/i.test(wanted)) {
    location.hash = `order=${wanted}`;
    return;
  }
  const { orders } = await get("v1/orders", { number: wanted, limit: 1 });
  location.hash = `order=${orders.length ? orders[0].order_id : wanted}`;
}

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  search($("query").value).catch(() => {});
});
$("token").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", new FormData(event.target).get("token"));
  route();
});
$("city").value = page.city;
$("city").addEventListener("input", () => {
  const code = $("city").value.trim();
  if (code && !/^\d{6}$/.test(code)) return;
  page.city = code;
  sessionStorage.setItem("city", code);
  refresh();
});
$("pause").addEventListener("click", () => {
  page.paused = !page.paused;
  if (!page.paused) drawEvents(page.held.splice(0));
  labelPause();
});
$("language").addEventListener("click", () => {
  page.language = page.language === "zh" ? "en" : "zh";
  sessionStorage.setItem("language", page.language);
  label();
  fill($("events"));
  page.token = "";
  route();
});
window.addEventListener("hashchange", route);
setInterval(() => {
  refresh();
  const asked = new URLSearchParams(location.hash.slice(1));
  page.drawn += 1;
  // An opened order is brought up to date too, unless somebody reads in it.
  const reading = document.querySelector("#order details[open]");
  if (!$("order").hidden && !document.hidden && page.drawn % 3 === 0 && !reading && asked.has("order")) openOrder(asked.get("order"));
}, 1000);
label();
route();
