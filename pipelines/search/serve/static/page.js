// The page. Its whole state is its address, so that the back button and a shared link give what was seen.
// What comes from the lake goes into the page as text alone (textContent), never as markup.

const FORM_FIELDS = ["q", "table", "as_of", "source", "dim", "where", "k", "funnel"];
const DOC_FIELDS = ["doc", "doc_source", "chunk"];
const DEFAULTS = { table: "embeddings", k: "10" };
const TITLES = ["title", "name", "headline", "subject"]; // metadata that names a document, the best first
const MOST_AROUND = 200_000; // characters shown before and after a passage: more make a browser crawl

const $ = (id) => document.getElementById(id);
const form = $("form");
let lake = { tables: [], sources: [] };
let hits = [];
let shown = null; // the search whose hits are on the page, as a query string
const calls = {}; // requests under way: a newer one aborts the older

// ---- the address ----

function state() {
  return Object.fromEntries(new URLSearchParams(location.search));
}

function address(values) {
  const parameters = new URLSearchParams();
  for (const name of [...FORM_FIELDS, ...DOC_FIELDS]) {
    const value = values[name] ?? "";
    if (name === "q" ? name in values : value !== "" && value !== DEFAULTS[name]) parameters.set(name, value);
  }
  return parameters.size ? `/?${parameters}` : "/";
}

function go(values) {
  const to = address(values);
  if (to !== location.pathname + location.search) history.pushState(null, "", to);
  return show();
}

// ---- elements ----

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

// Long ids may be broken where a person would.
function breakable(made, text) {
  made.replaceChildren(...text.split(/(?<=[._/:-])/).flatMap((part) => [part, document.createElement("wbr")]));
  return made;
}

function fill(select, options, value) {
  select.replaceChildren(...options.map(([key, label]) => new Option(label, key)));
  // What a shared link asks for is asked for, whether it is among the choices or not.
  if (value && !options.some(([key]) => key === value)) select.append(new Option(value, value));
  select.value = value ?? "";
}

function tell(fault) {
  $("fault").replaceChildren();
  $("fault").hidden = !fault;
  if (fault) $("fault").append(element("strong", fault.error), element("span", fault.hint ?? ""));
}

async function fetched(kind, path, parameters) {
  calls[kind]?.abort();
  const call = (calls[kind] = new AbortController());
  let response;
  try {
    response = await fetch(`${path}?${new URLSearchParams(parameters)}`, { signal: call.signal });
  } catch (error) {
    if (call.signal.aborted) return null;
    throw { error: "the server does not answer", hint: "Is 'embedlake serve' still running?" };
  }
  const body = await response.json().catch(() => ({ error: `the server answers with ${response.status}` }));
  if (call.signal.aborted) return null;
  if (!response.ok) throw body;
  return body;
}

// ---- the form ----

function fillForm(values) {
  const table = values.table || DEFAULTS.table;
  const info = lake.tables.find((one) => one.name === table);
  fill($("table"), lake.tables.map((one) => [one.name, tableLabel(one)]), table);
  fill($("as_of"), [["", "now"], ...(info?.releases ?? []).map((name) => [name, name])], values.as_of);
  const sources = info?.sources.length ? info.sources : lake.sources;
  fill($("source"), [["", "all"], ...sources.map((name) => [name, name])], values.source);
  const [full, ...smaller] = info?.dims ?? [];
  const dims = [["", full ? `${full} (all)` : "all"], ...smaller.map((dim) => [String(dim), String(dim)])];
  fill($("dim"), dims, values.dim);
  $("k").value = values.k || DEFAULTS.k;
  $("funnel").checked = values.funnel === "1";
  $("filter").hidden = table === DEFAULTS.table && !values.where;
  $("where").value = values.where ?? "";
  $("columns").textContent = info ? `Compare ${info.columns.join(", ")} with constants: source = 'wiki'` : "";
  $("lake").textContent = info?.model ?? "";
}

function tableLabel(table) {
  return `${table.name} (${table.dim} × ${table.type}${table.rotated ? ", rotated" : ""})`;
}

function formValues() {
  const values = Object.fromEntries(new FormData(form));
  if ($("filter").hidden) delete values.where;
  return values;
}

// ---- the hits ----

async function search(values) {
  const asked = Object.fromEntries(FORM_FIELDS.filter((name) => values[name]).map((name) => [name, values[name]]));
  if (shown === address(asked) && hits.length) return;
  shown = null;
  $("view").classList.add("busy");
  $("summary").textContent = "Searching…";
  try {
    const answer = await fetched("search", "/api/search", asked);
    if (answer === null) return;
    hits = answer.hits;
    shown = address(asked);
    $("summary").textContent = summary(answer);
  } catch (fault) {
    hits = [];
    $("summary").textContent = "";
    tell(fault);
  }
  $("view").classList.remove("busy");
  $("hits").replaceChildren(...hits.map((hit) => hitItem(hit, asked)));
}

function summary(answer) {
  const count = answer.hits.length === 1 ? "1 hit" : `${answer.hits.length} hits`;
  const place = `${answer.table} at ${answer.dim} dimensions, snapshot ${answer.snapshot}`;
  return [`${count} in ${answer.seconds.toFixed(2)} s · ${place}`, ...answer.notes].join(" · ");
}

function titleOf(metadata, docId) {
  return TITLES.map((name) => metadata[name]).find((title) => title?.trim()) ?? docId;
}

function hitItem(hit, asked) {
  const title = titleOf(hit.metadata, hit.doc_id);
  const link = element("a");
  const target = { ...asked, doc: hit.doc_id, doc_source: hit.source, chunk: hit.chunk_id };
  link.href = address(target);
  link.dataset.chunk = hit.chunk_id;
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // another tab is the browser's affair
    event.preventDefault();
    go(target).then(() => $("panel").hidden || $("panel").focus({ preventScroll: true }));
  });
  const head = element("div", "", "head");
  head.append(breakable(element("span", "", "title"), title), scoreOf(hit));
  const place = element("div", "", "place");
  place.append(element("span", hit.source, "source"));
  if (title !== hit.doc_id) place.append(breakable(element("span"), hit.doc_id));
  place.append(element("span", `passage ${hit.ordinal + 1}`));
  link.append(head, place, element("p", hit.text.replace(/\s+/g, " ").trim(), "snippet"));
  const item = element("li");
  item.append(link);
  return item;
}

function scoreOf(hit) {
  const score = element("span", hit.score.toFixed(3), "score");
  score.title = "Cosine of the query's vector and the passage's";
  return score;
}

// ---- the document ----

async function openDocument(values) {
  const asked = { doc_id: values.doc, source: values.doc_source ?? "" };
  let found;
  try {
    found = await fetched("document", "/api/document", asked);
    if (found === null) return;
  } catch (fault) {
    tell(fault);
    closePanel();
    return;
  }
  const hit = hits.find((one) => one.chunk_id === values.chunk);
  const span = found.chunks.find((one) => one.chunk_id === values.chunk);
  const count = found.chunks.length;
  const title = titleOf(found.metadata, found.doc_id);
  breakable($("doc-title"), title);
  const id = title === found.doc_id ? "" : found.doc_id;
  const places = [found.source, id, span && `passage ${span.ordinal + 1} of ${count}`];
  breakable($("doc-place"), places.filter(Boolean).join(" · "));
  const facts = [...Object.entries(found.metadata), ["arrived", found.arrival.slice(0, 10)], ["file", found.file]];
  $("doc-facts").replaceChildren(
    ...facts.filter(([, value]) => value).flatMap(([key, value]) => [element("dt", key), element("dd", value)]),
  );
  // A release may have a passage that the document has lost since.
  $("doc-note").hidden = Boolean(span);
  $("doc-note").textContent = hit
    ? `The document has changed since. The passage that was found:\n\n${hit.text}`
    : "The document has changed since: the passage that was found is not in it any more.";
  $("doc-text").replaceChildren(...passages(found.text, span));
  $("panel").hidden = false;
  $("view").classList.add("open");
  // To the top of the document where the passage begins in sight there, else to the passage.
  const scroll = $("doc-scroll");
  const at = ($("doc-text").querySelector("mark")?.offsetTop ?? 0) - scroll.offsetTop;
  scroll.scrollTop = at > scroll.clientHeight / 2 ? at - scroll.clientHeight / 4 : 0;
}

function passages(text, span) {
  const start = span ? unitsAt(text, span.char_start) : 0;
  const end = span ? unitsAt(text, span.char_end) : 0;
  const first = Math.max(0, start - MOST_AROUND);
  const last = Math.min(text.length, end + MOST_AROUND);
  const found = text.slice(start, end);
  const bare = found.trimEnd(); // the space up to the next passage is part of this one, and looks odd marked
  return [
    first > 0 ? `[${first.toLocaleString("en")} characters before]\n\n` : "",
    text.slice(first, start),
    span ? element("mark", bare) : "",
    found.slice(bare.length) + text.slice(end, last),
    last < text.length ? `\n\n[${(text.length - last).toLocaleString("en")} characters after]` : "",
  ];
}

// The lake counts Unicode code points; a string's index counts UTF-16 units, two for some of them.
function unitsAt(text, points) {
  let at = 0;
  for (let seen = 0; seen < points && at < text.length; seen++) at += text.codePointAt(at) > 0xffff ? 2 : 1;
  return at;
}

function closePanel() {
  calls.document?.abort();
  $("panel").hidden = true;
  $("view").classList.remove("open");
}

// ---- all of it ----

async function show() {
  const values = state();
  tell(null);
  fillForm(values);
  $("q").value = values.q ?? "";
  document.title = values.q ? `${values.q} – Embedlake` : "Embedlake";
  if ("q" in values) await search(values);
  else forget();
  for (const link of $("hits").querySelectorAll("a")) {
    if (link.dataset.chunk === values.chunk) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  if (values.doc) await openDocument(values);
  else closePanel();
}

function forget() {
  calls.search?.abort();
  hits = [];
  shown = null;
  $("view").classList.remove("busy");
  $("hits").replaceChildren();
  const sources = lake.sources.length > 8 ? [...lake.sources.slice(0, 8), "…"] : lake.sources;
  $("summary").textContent = sources.length ? `Ask in your own words. The lake holds ${sources.join(", ")}` : "";
}

function close() {
  const { doc, doc_source, chunk, ...rest } = state();
  go(rest).then(() => $("hits").querySelector(`a[data-chunk="${CSS.escape(chunk ?? "")}"]`)?.focus());
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  shown = null; // asked again is searched again: the lake may have changed
  go(formValues());
});
form.addEventListener("change", (event) => {
  const values = formValues();
  if (event.target.id === "q") return;
  if (event.target.id === "table") {
    for (const name of ["as_of", "source", "dim", "where"]) delete values[name]; // another table has its own
  }
  if (!values.q.trim()) delete values.q; // nothing to search yet
  go(values);
});
$("close").addEventListener("click", close);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("panel").hidden) close();
});
addEventListener("popstate", show);

try {
  lake = (await fetched("lake", "/api/lake", {})) ?? lake;
  await show();
} catch (fault) {
  tell(fault);
}
