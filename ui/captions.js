// The Captions tab: what is shown, and how it speaks with the page's program. Captions, names and tags come as data and
// are only ever put in as text (textContent), never as HTML.
window.atelierBench = (() => {
  const bench = {
    server: null, key: "", root: null, hello: null, parts: {}, cards: new Map(),
    state: {
      folder: "", extension: ".txt", separator: ",", filter: "", tagSearch: "", sort: "name", first: 0, mode: "grid", panel: "caption",
      view: null, focus: null, anchor: null, selected: new Set(), drafts: new Map(), own: false, fault: "",
    },
  };
  const state = bench.state;

  bench.el = window.atelier.el;
  const { say, plural } = window.atelier;

  const place = () => ({ folder: state.folder, extension: state.extension, separator: state.separator });
  bench.ask = async (what, more = {}) => {
    try {
      return JSON.parse(await bench.server.captions(JSON.stringify({ key: bench.key, ask: what, ...place(), ...more })));
    } catch (error) {
      return { error: say("The page's program did not answer. Look into its terminal, then try again.") };
    }
  };

  // Look at the folder anew; an answer that a later question overtook is dropped.
  let question = 0, answered = 0;
  bench.look = async ({ first = state.first, at = null, quiet = false } = {}) => {
    if (!state.folder) return bench.drawAll();
    if (quiet && answered !== question) return; // a page that was asked for meanwhile comes with all this
    const mine = ++question;
    if (!quiet) bench.root.classList.add("is-busy");
    const answer = await bench.ask("view", { filter: state.filter, tag_search: state.tagSearch, sort: state.sort, first, at });
    if (mine !== question) return;
    answered = mine;
    bench.root.classList.remove("is-busy");
    state.fault = answer.error || "";
    if (!answer.error) {
      state.view = answer;
      state.first = answer.first;
      if (at !== null && answer.items.some((item) => item.id === at)) state.focus = at;
      if (!answer.items.some((item) => item.id === state.focus)) state.focus = answer.items[0]?.id ?? null;
    }
    bench.drawAll();
    bench.fillPictures();
    bench.getAhead();
    if (answer.items?.some((item) => item.tokens === null && item.text)) setTimeout(() => bench.look({ quiet: true }), 900);
  };
  bench.drawAll = () => {
    for (const part of ["drawBar", "drawTags", "drawGrid", "drawPanel"]) bench[part]?.();
  };

  // Thumbnails that were not ready are asked for until all are there.
  let asking = false;
  bench.fillPictures = async () => {
    if (asking) return;
    asking = true;
    for (let turn = 0; turn < 60; turn++) {
      const missing = (state.view?.items || []).filter((item) => item.small === null);
      if (!missing.length) break;
      await new Promise((done) => setTimeout(done, turn ? 350 : 120));
      const { small } = await bench.ask("pictures", { items: missing.map((item) => item.id) });
      for (const item of state.view?.items || []) if (small && small[item.id] != null) item.small = small[item.id];
      bench.drawGrid();
    }
    asking = false;
  };

  // Who stays a moment on a page is likely to turn it: the next one is made ready, never beside a question.
  let ahead = 0;
  bench.getAhead = () => {
    clearTimeout(ahead);
    const { first, filter, sort, view } = state;
    if (!view || first + bench.hello.page_items >= view.matching) return;
    const wanted = JSON.stringify([state.folder, view.version, first, filter, sort]);
    if (wanted === bench.gotAhead) return;
    ahead = setTimeout(() => {
      if (asking) return bench.getAhead();
      bench.gotAhead = wanted;
      bench.ask("ahead", { first, filter, sort });
    }, 500);
  };

  bench.item = (id = state.focus) => state.view?.items.find((item) => item.id === id) || null;
  bench.draft = (id) => state.drafts.get(id);
  bench.open = (folder, extension) => {
    if (state.drafts.size && !confirm(say("Leave {captions} unsaved?", { captions: plural(state.drafts.size, "caption") }))) return;
    Object.assign(state, { folder: folder.trim(), extension: extension.trim() || ".txt", first: 0, focus: null, view: null });
    state.selected.clear();
    state.drafts.clear();
    bench.cards.clear();
    bench.look();
  };

  // A short sentence at the bottom, with Undo where that is possible.
  let fading = 0;
  bench.toast = (text, { undo = false, bad = false, more = [] } = {}) => {
    clearTimeout(fading);
    document.getElementById("bench-toast")?.remove();
    const toast = bench.el("div", { id: "bench-toast", class: bad ? "bad" : "", role: "status" }, bench.el("span", { text }));
    if (more.length) toast.append(bench.el("ul", {}, ...more.map((line) => bench.el("li", { text: line }))));
    if (undo) toast.append(bench.el("button", { type: "button", text: say("Undo"), onclick: bench.undo }));
    toast.append(bench.el("button", { type: "button", text: "×", title: say("Close"), onclick: () => toast.remove() }));
    document.body.append(toast);
    fading = setTimeout(() => toast.remove(), bad || more.length ? 20000 : 8000);
  };

  // What an edit, undo, redo or operation led to.
  bench.told = (answer, done, isUndone = false) => {
    if (answer.error) return bench.toast(answer.error, { bad: true });
    const left = answer.failed_count ? " " + say("{captions} could not be changed:", { captions: plural(answer.failed_count, "caption") }) : "";
    bench.toast(`${done}${left}`, { undo: answer.count > 0 && !isUndone, bad: !!left, more: answer.failed });
  };
  bench.undo = async () => turn("undo");
  bench.redo = async () => turn("redo");
  async function turn(what) {
    const answer = await bench.ask(what), isUndo = what === "undo";
    const nothing = isUndo ? say("Nothing is left to undo.") : say("Nothing is left to redo.");
    if (!answer.error && !answer.title) return bench.toast(nothing);
    const told = { title: answer.title, captions: plural(answer.count || 0, "caption") };
    bench.told(answer, isUndo ? say("Undone: {title} ({captions}).", told) : say("Done again: {title} ({captions}).", told), isUndo);
    await bench.look({ quiet: true });
  }

  bench.focusOn = (id) => {
    state.focus = id;
    state.panel = "caption";
    bench.drawGrid();
    bench.drawPanel();
    bench.cards.get(id)?.scrollIntoView({ block: "nearest" });
  };
  // Go along the items, over the ends of pages too.
  bench.move = async (by) => {
    const items = state.view?.items || [];
    const at = items.findIndex((item) => item.id === state.focus) + by;
    if (items[at]) return bench.focusOn(items[at].id);
    const target = state.first + at;
    if (target < 0 || target >= (state.view?.matching || 0)) return;
    await bench.look({ first: target });
    bench.focusOn((state.view.items[target - state.first] || state.view.items[0]).id);
  };

  bench.fieldValue = (path) => String(window.atelierFields.values("form")[path] ?? "");
  // Until the user opens another folder here, the tab shows that of the data set.
  function follow() {
    state.separator = bench.fieldValue("captions.separator") || ",";
    const folder = bench.fieldValue("data.folder"), extension = bench.fieldValue("captions.extension");
    if (state.own || !folder) return bench.drawAll();
    if (folder !== state.folder || extension !== state.extension) bench.open(folder, extension);
    else bench.look({ quiet: true });
  }
  bench.useDataSet = () => {
    state.own = false;
    follow();
  };

  // Where the second text encoder reads captions of its own, the ending of those that are not shown.
  bench.otherExtension = () => {
    const first = bench.fieldValue("captions.extension") || ".txt", second = bench.fieldValue("captions.second_extension");
    return !second || second === first ? "" : state.extension === second ? first : second;
  };
  bench.useOtherCaptions = () => {
    state.own = true;
    bench.open(state.folder, bench.otherExtension());
  };

  bench.start = async (element, server) => {
    Object.assign(bench, { server, root: element.querySelector("#bench"), key: element.querySelector("#bench").dataset.key });
    bench.hello = await bench.ask("hello");
    if (bench.hello.error) return bench.toast(bench.hello.error, { bad: true });
    state.mode = localStorage.getItem("atelier.captions.mode") || "grid";
    bench.build();
    bench.drawAll();
    new IntersectionObserver((seen) => seen.some((entry) => entry.isIntersecting) && follow()).observe(bench.root);
    setInterval(async () => {
      if (!state.view || document.hidden || !bench.root.offsetParent || bench.root.classList.contains("is-busy")) return;
      const { version } = await bench.ask("poll");
      if (version !== undefined && version !== state.view?.version) bench.look({ quiet: true });
    }, 3000);
  };
  window.addEventListener("beforeunload", (event) => state.drafts.size && event.preventDefault());
  return bench;
})();
