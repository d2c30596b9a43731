// What the browser does by itself: levels, marks beside fields, chart read-outs, full-size pictures, and waiting for a
// page server that went away. Text is only ever put in as text (textContent), never as HTML.
window.atelier = (() => {
  // What the page says, in its language; {places} are filled from `values`. See ui/language.py.
  const say = (sentence, values = {}) =>
    ((window.atelierWords || {})[sentence] ?? sentence).replace(/\{(\w+)\}/g, (place, name) => values[name] ?? place);
  const digits = new Intl.NumberFormat("en"); // made once: toLocaleString makes one for each number
  const number = (value) => digits.format(value);
  const plural = (count, noun) => say(["{count}", noun].join(" "), { count: number(count) }) +
    (count === 1 || window.atelierLanguage === "zh" ? "" : "s");
  document.documentElement.lang = window.atelierLanguage === "zh" ? "zh-CN" : "en";
  function languageSwitch(element) {
    const choice = element.querySelector("select");
    choice.value = window.atelierLanguage;
    choice.addEventListener("change", () => {
      document.cookie = `${choice.dataset.cookie}=${choice.value}; path=/; max-age=31536000; SameSite=Lax`;
      reload();
    });
    if (window.atelierSignedIn)
      element.append(el("form", { method: "post", action: "logout", id: "sign-out" }, el("button", { text: say("Sign out") })));
  }

  async function reload() {
    await window.atelierForm?.settle();
    location.reload();
  }

  const idOf = (path) => "field-" + path.replaceAll(".", "-");
  const fieldOf = (path) => document.getElementById(idOf(path));

  // el("div", {class: "x", onclick: f, text: "…"}, child, …)
  const el = (tag, options = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "text") made.textContent = value;
      else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (name in made && name !== "list" && name !== "type") made[name] = value;
      else made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  };

  function showLevel(level) {
    document.body.dataset.level = level || "basic";
  }

  // marks: {problems: {path: [sentences]}, off: [paths], changed: {path: what the preset has, as text and as shown}}, or
  // JSON of it; each source (the form, a tool) marks its own fields. Kept for fields whose tab is drawn later.
  const sources = {};
  let marked = { problems: {}, off: new Set(), changed: new Map() };
  function showMarks(marks) {
    const told = typeof marks === "string" ? JSON.parse(marks || "[]") : marks;
    [].concat(told).forEach((item) => (sources[item.source || "form"] = item));
    const all = Object.values(sources);
    const byId = (name) => all.flatMap((item) => Object.entries(item[name] || {})).map(([path, of]) => [idOf(path), of]);
    const off = new Set(all.flatMap((item) => item.off || []).map(idOf));
    const { sentence = "", blocking = [] } = sources.form || {};
    marked = { problems: Object.fromEntries(byId("problems")), off, changed: new Map(byId("changed")), sentence, blocking };
    markFields(document.querySelectorAll(".field"));
    tellMarks();
  }
  function tellMarks() {
    document.dispatchEvent(new CustomEvent("atelier-marks", { detail: marked }));
  }
  function markFields(fields) {
    const { problems, off, changed } = marked;
    fields.forEach((field) => {
      field.classList.toggle("is-off", off.has(field.id));
      markChanged(field, changed.get(field.id));
      const text = (problems[field.id] || []).join(" ");
      field.classList.toggle("has-problem", text !== "");
      let place = field.querySelector(":scope > .problem-text");
      if (text && !place) {
        place = document.createElement("div");
        place.className = "problem-text";
        place.id = "problem-" + field.id;
        place.setAttribute("role", "alert");
        field.append(place);
      }
      if (place && place.textContent !== text) place.textContent = text;
      if (place) place.hidden = text === "";
      const entry = field.querySelector("[data-entry]");
      const about = [`help-${field.id}`, ...(text ? [place.id] : [])].join(" ");
      if (entry && entry.getAttribute("aria-describedby") !== about) entry.setAttribute("aria-describedby", about);
      if (entry && entry.hasAttribute("aria-invalid") !== (text !== "")) entry.toggleAttribute("aria-invalid", text !== "");
    });
  }
  // The help is what each entry is described by: screen readers tell it, and as a tooltip it comes with the focus.
  const HELP = "atelier.help";
  function showHelp(asTip) {
    document.body.toggleAttribute("data-help-tips", asTip);
  }
  document.addEventListener("change", ({ target }) => {
    if (target.id !== "help-tips") return;
    localStorage.setItem(HELP, target.checked ? "tips" : "");
    showHelp(target.checked);
  });
  function helpSwitch(element) {
    const isTip = localStorage.getItem(HELP) === "tips";
    element.querySelector("#help-tips").checked = isTip;
    showHelp(isTip);
  }
  document.addEventListener("keydown", ({ key, target }) => {
    const field = key === "Escape" && target.closest?.(".field");
    if (!field) return;
    field.classList.add("help-away");
    field.addEventListener("focusout", () => field.classList.remove("help-away"), { once: true });
  });

  // A changed field is told from the preset, and has a button that puts the preset's value back.
  let reset = () => {};
  const whenReset = (told) => (reset = told);
  function markChanged(field, had) {
    const isChanged = had !== undefined;
    const value = had?.text;
    field.classList.toggle("is-changed", isChanged);
    const label = field.querySelector(".label-text");
    const about = isChanged ? say("Changed; the preset has: {value}", { value }) : "";
    if (label && label.title !== about) label.title = about;
    let button = field.querySelector(":scope > .reset");
    if (!isChanged) return button?.remove();
    if (!button) {
      button = document.createElement("button");
      Object.assign(button, { className: "reset", type: "button", textContent: "↺" });
      field.append(button);
    }
    button.onclick = () => {
      field.tabIndex = -1; // not its entry: a list would open, and not show what is put back
      field.focus({ preventScroll: true });
      reset(field.dataset.name, had.shown);
    };
    const name = say("{label}: back to {value}, as in the preset", { label: label?.textContent.trim() || "", value });
    if (button.title !== name) Object.assign(button, { title: name, ariaLabel: name });
  }

  // The fields of the chosen tool of a panel, and what that tool is for.
  function showTool(key, tool) {
    const panel = document.getElementById(key + "-panel");
    panel?.querySelectorAll(".tool-fields").forEach((item) => item.classList.toggle("chosen", item.id === "tool-" + tool));
    panel?.querySelectorAll(".tool-about").forEach((item) => (item.hidden = item.dataset.tool !== tool));
  }

  function openTab(name) {
    document.getElementById(`tab-${name}-button`)?.click();
  }

  function openSection(section) {
    if (section) section.open = true;
  }
  // Gradio draws a tab when it is first opened: what is looked for in one is waited for.
  async function drawnPlace(selector, seconds = 5) {
    for (let tries = seconds * 20; tries > 0; tries--) {
      const found = document.querySelector(selector);
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return null;
  }
  async function goToField(path) {
    if (!fieldOf(path)) openTab(path.startsWith("drawing.") ? "sample" : "training");
    const field = await drawnPlace(`#${CSS.escape(idOf(path))}`);
    if (!field) return;
    field.classList.add("called"); // also where its level is not shown
    const tab = field.closest(".tabitem")?.id?.replace("tab-", "");
    if (tab) openTab(tab);
    openSection(field.closest(".section"));
    setTimeout(() => {
      field.scrollIntoView({ block: "center", behavior: "smooth" });
      field.querySelector("[data-entry]")?.focus({ preventScroll: true });
    }, 80);
  }

  // As if it were typed: the form is looked at.
  function fillField(path, value) {
    window.atelierFields.show("form", { [path]: value });
    window.atelierForm.look();
    goToField(path);
  }

  document.addEventListener("click", (event) => {
    const target = event.target.closest?.("[data-field], [data-tab], [data-full], [data-more]");
    if (!target || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    if (target.dataset.field) goToField(target.dataset.field);
    else if (target.dataset.more) document.getElementById(target.dataset.more)?.classList.toggle("all");
    else if (target.dataset.tab) openTab(target.dataset.tab);
    else showFull(target);
  });

  // Full-size picture; arrow keys go along the row (steps), Escape closes.
  let full = null;
  function showFull(link) {
    closeFull();
    const box = document.createElement("div");
    box.id = "full-picture";
    const image = document.createElement("img");
    image.src = link.href;
    const about = document.createElement("p");
    about.textContent = link.dataset.full;
    box.append(image, about);
    box.addEventListener("click", closeFull);
    document.body.append(box);
    full = link;
  }
  function closeFull() {
    document.getElementById("full-picture")?.remove();
    full = null;
  }
  document.addEventListener("keydown", (event) => {
    if (!full) return;
    if (event.key === "Escape") return closeFull();
    const row = [...(full.closest("tr")?.querySelectorAll("[data-full]") || [])];
    const next = row[row.indexOf(full) + (event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0)];
    if (next && next !== full) showFull(next);
  });

  // A thumbnail that is still being made is asked for again, ever less often; then its words stand in its place.
  document.addEventListener("error", (event) => {
    const image = event.target;
    if (image.tagName !== "IMG" || image.dataset.soon === undefined) return;
    const tries = Number(image.dataset.tries || 0) + 1;
    if (tries > 25) {
      const words = el("span", { class: "soon", text: image.dataset.soon });
      return image.replaceWith(words);
    }
    image.dataset.tries = tries;
    const address = image.src.replace(/&again=\d+$/, "");
    setTimeout(() => image.isConnected && (image.src = `${address}&again=${tries}`), 200 * Math.min(tries, 10));
  }, true);

  // Values under the pointer in a chart.
  function chartTip() {
    let tip = document.getElementById("chart-tip");
    if (!tip) {
      tip = document.createElement("div");
      tip.id = "chart-tip";
      document.body.append(tip);
    }
    return tip;
  }
  function nearest(xs, x) {
    let low = 0, high = xs.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) low = middle + 1;
      else high = middle;
    }
    return low > 0 && x - xs[low - 1] < xs[low] - x ? low - 1 : low;
  }
  document.addEventListener("mousemove", (event) => {
    const svg = event.target.closest?.("svg.chart[data-points]");
    if (!svg) {
      document.getElementById("chart-tip")?.remove();
      document.querySelectorAll("svg.chart .cursor").forEach((line) => (line.style.visibility = "hidden"));
      return;
    }
    const chart = JSON.parse(svg.dataset.points);
    const box = svg.getBoundingClientRect();
    const [left, right] = chart.plot;
    const at = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const step = ((at - left) / (right - left)) * chart.x_end;
    const first = chart.lines[chart.lines.length - 1];
    const shown = first.x[nearest(first.x, step)];
    const rows = chart.lines.map((line) => {
      const value = line.y[nearest(line.x, shown)];
      return `${line.name}  ${value === null ? "–" : value} ${chart.unit}`.trimEnd();
    });
    const cursor = svg.querySelector(".cursor");
    cursor.setAttribute("transform", `translate(${left + ((right - left) * shown) / chart.x_end})`);
    cursor.style.visibility = "visible";
    const tip = chartTip();
    tip.textContent = [say("step {number}", { number: shown }), ...rows].join("\n");
    tip.style.left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = event.clientY + 14 + "px";
  });

  // Long rows of samples stay at their newest end unless the user looked elsewhere; opened details stay open.
  const opened = new Set();
  document.addEventListener("toggle", (event) => {
    const key = event.target.dataset?.keep;
    if (key) event.target.open ? opened.add(key) : opened.delete(key);
  }, true);
  let followed = 0;
  new MutationObserver(() => {
    document.querySelectorAll("details[data-keep]:not([open])").forEach((item) => {
      if (opened.has(item.dataset.keep)) item.open = true;
    });
    const row = document.querySelector('[data-follow="end"]');
    if (row && !row.dataset.seen) {
      row.dataset.seen = "1";
      row.scrollLeft = followed === null ? row.scrollWidth : followed || row.scrollWidth;
      row.addEventListener("scroll", () => {
        followed = row.scrollLeft + row.clientWidth > row.scrollWidth - 40 ? null : row.scrollLeft;
      });
    }
  }).observe(document.documentElement, { childList: true, subtree: true });

  // Looks again and again at what `once` tells: often while it goes on, seldom while nobody sees it.
  // Two looks at once would overtake each other: a second one waits for the first.
  const LOOK_MS = { busy: 500, resting: 2500, hidden: 8000 };
  function repeatedly(place, once, isBusy, busyMs = LOOK_MS.busy) {
    let looking = null, timer = 0;
    return async function look() {
      clearTimeout(timer);
      while (looking) await looking;
      looking = once();
      await looking;
      looking = null;
      clearTimeout(timer);
      const root = document.getElementById(place);
      const isHidden = document.hidden || !root || root.offsetParent === null;
      timer = setTimeout(look, isHidden ? LOOK_MS.hidden : isBusy() ? busyMs : LOOK_MS.resting);
    };
  }
  // One at a time; what is asked for meanwhile is done after it, and `once` can ask whether its answer is stale already.
  function latest(once) {
    let working = null, isStale = false;
    async function work() {
      while (isStale) {
        isStale = false;
        await once(() => isStale);
      }
    }
    return () => {
      isStale = true;
      return (working ||= work().finally(() => { working = null; }));
    };
  }

  // The page's server may end while training goes on: say so, and come back when it does.
  // A server that was started anew has another id: this page then belongs to the old one and is loaded again.
  let away = false;
  let serverId = null;
  async function lookForServer() {
    let id = null;
    try {
      const answer = await fetch("gradio_api/app_id", { cache: "no-store" });
      id = answer.ok ? await answer.text() : serverId;
    } catch {
      if (!away) showAway();
      away = true;
      return;
    }
    if (away || (serverId !== null && id !== serverId)) return reload();
    serverId = id;
  }
  function showAway() {
    const note = document.createElement("div");
    note.id = "away";
    note.textContent =
      say("The page's program is not running. Training goes on without it; start ./gui.sh again and this page returns.");
    document.body.append(note);
  }
  lookForServer();
  setInterval(lookForServer, 4000);

  // A text goes to the clipboard; whether it did. Other addresses than this machine's own have none without https.
  async function copied(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const field = el("textarea", { value: text });
      document.body.append(field);
      field.select();
      const done = document.execCommand("copy");
      field.remove();
      return done;
    }
  }
  async function copyBy(button, text) {
    const words = button.textContent;
    button.textContent = (await copied(text)) ? say("Copied") : say("Copying is not allowed here");
    setTimeout(() => { button.textContent = words; }, 1500);
  }
  const copies = (title, text) => el("button", { type: "button", text: title, onclick: ({ currentTarget }) => copyBy(currentTarget, text) });

  showLevel("basic");
  return {
    el, say, copyBy, copies, plural, number, languageSwitch, helpSwitch, whenReset, showLevel, showMarks, showTool, tellMarks, goToField, fillField, openSection, openTab, drawnPlace, repeatedly, latest,
  };
})();
