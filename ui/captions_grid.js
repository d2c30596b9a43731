// The Captions tab: bar, tags, pictures and keys.
(() => {
  const bench = window.atelierBench;
  const { state, el, parts } = bench, { say, plural, number } = window.atelier;
  const KEYS = [
    ["← → ↑ ↓, J, K", say("go along the pictures")], ["Enter", say("edit the caption")], ["Ctrl+Enter", say("save it")],
    ["Ctrl+Shift+Enter", say("save it and edit the next")], ["Esc", say("leave the caption; clear the selection")],
    [say("Space"), say("select")], [say("Shift+click, Ctrl+click"), say("select several")], ["Ctrl+A", say("select all that are shown by the filter")],
    ["Ctrl+Z, Ctrl+Y", say("undo, redo")], ["/", say("filter")], ["G", say("grid or single picture")],
  ];
  const LANGUAGE = [
    ["blob", say("the text contains it")], ["tag:dog", say("has this tag; _ and blank are the same")], ['tag:"long hair"', say("of several words")],
    ["tag:*hair", say("* stands for any letters")], ['text:"on a sofa"', say("the text contains it")], ["name:IMG_*", say("file name")],
    ["folder:10_*", say("folder")], ["tags > 10", say("also tokens, chars, words, lines; > < >= <= = !=")], ["untagged", say("no caption, or an empty one")],
    ["a b, a AND b", say("both")], ["a OR b", say("one of them")], ["NOT (a OR b)", say("not these")],
  ];

  // A click by mouse leaves the keys to the pictures.
  bench.button = (text, action, options = {}) => el("button", {
    type: "button", text, ...options, onclick: (event) => (event.detail && event.currentTarget.blur(), action(event)),
  });
  const table = (rows) => el("table", {}, ...rows.map(([a, b]) => el("tr", {}, el("td", {}, el("kbd", { text: a })), el("td", { text: b }))));

  bench.build = () => {
    const typed = (id, label, placeholder, enter) => el("input", {
      id, placeholder, type: "text", spellcheck: false, autocomplete: "off", "aria-label": label,
      onkeydown: (event) => event.key === "Enter" && enter(),
    });
    const openOwn = () => ((state.own = true), bench.open(parts.folder.value, parts.extension.value));
    parts.folder = typed("bench-folder", say("Folder"), say("folder of images"), openOwn);
    parts.extension = typed("bench-extension", say("Caption extension"), ".txt", openOwn);
    parts.other = bench.button("", bench.useOtherCaptions, { id: "bench-other", hidden: true });
    parts.counts = el("span", { id: "bench-counts", class: "quiet" });
    parts.filter = typed("bench-filter", say("Filter"), say("Filter:  tag:dog  NOT (tokens > 75 OR untagged)"), () => parts.filter.blur());
    let pause = 0;
    parts.filter.addEventListener("input", () => {
      clearTimeout(pause);
      pause = setTimeout(() => bench.filterBy(parts.filter.value), 220);
    });
    parts.sort = el("select", { id: "bench-sort", "aria-label": say("Order"), onchange: () => ((state.sort = parts.sort.value), bench.look({ first: 0 })) },
      ...bench.hello.sorts.map((name) => el("option", { value: name, text: bench.hello.sort_titles[name] })));
    parts.undo = bench.button(say("Undo"), bench.undo, { id: "bench-undo" });
    parts.redo = bench.button(say("Redo"), bench.redo, { id: "bench-redo" });
    parts.mode = bench.button("", bench.toggleMode, { id: "bench-mode", title: "G" });
    parts.fault = el("p", { id: "bench-fault", role: "alert" });
    parts.strip = el("div", { id: "bench-strip" });
    parts.tagFilter = typed("bench-tag-filter", say("Find a tag"), say("find a tag"), () => {});
    let tagPause = 0;
    parts.tagFilter.addEventListener("input", () => {
      clearTimeout(tagPause);
      state.tagSearch = parts.tagFilter.value.trim();
      tagPause = setTimeout(() => bench.look({ quiet: true }), 220);
    });
    parts.known = el("datalist", { id: "bench-known" });
    parts.tags = el("ul", { id: "bench-tags", onclick: (event) => {
      const tag = event.target.closest("button")?.dataset.tag;
      if (tag !== undefined) toggleTag(tag, event.altKey);
    } });
    parts.tagTitle = el("h4", { text: say("Tags") });
    parts.grid = el("div", { id: "bench-grid", role: "listbox", "aria-multiselectable": "true", "aria-label": say("Pictures") });
    parts.grid.addEventListener("click", (event) => onCard(event, (id) => click(id, event)));
    parts.grid.addEventListener("dblclick", (event) => onCard(event, () => state.mode === "grid" && bench.toggleMode()));
    parts.grid.addEventListener("mousedown", (event) => onCard(event, () => event.shiftKey && event.preventDefault()));
    bench.root.addEventListener("focusin", (event) => event.target.getAttribute("list") === "bench-known" && offerKnown());
    parts.pages = el("div", { id: "bench-pages" });
    parts.panel = el("aside", { id: "bench-panel" });
    parts.help = el("div", { id: "bench-help", class: "sheet", hidden: true }, table(LANGUAGE), table(KEYS));
    bench.root.replaceChildren(
      el("div", { class: "bench-row" }, parts.folder, parts.extension, bench.button(say("Open"), openOwn, { id: "bench-open" }),
        bench.button(say("Data set's folder"), bench.useDataSet, { title: say("Open the folder of the tab Data set") }), parts.other, parts.counts),
      el("div", { class: "bench-row" }, parts.filter, parts.sort, parts.mode, parts.undo, parts.redo),
      parts.fault, parts.strip, parts.help,
      el("div", { id: "bench-body" },
        el("nav", { id: "bench-side" }, parts.tagTitle, parts.tagFilter, parts.tags, parts.known),
        el("section", {}, parts.grid, parts.pages), parts.panel));
  };

  bench.filterBy = (text) => {
    state.filter = text;
    if (parts.filter.value !== text) parts.filter.value = text;
    bench.look({ first: 0 });
  };
  const quoted = (tag) => `tag:"${tag.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
  function toggleTag(tag, not) {
    const bare = quoted(tag), word = (not ? "NOT " : "") + bare;
    const without = state.filter.replaceAll("NOT " + bare, "").replaceAll(bare, "").replace(/\s+/g, " ").trim();
    const had = state.filter.includes(word) && (not || !state.filter.includes("NOT " + bare));
    bench.filterBy(had ? without : `${without && / OR /.test(without) ? `(${without})` : without} ${word}`.trim());
  }

  bench.toggleMode = () => {
    state.mode = state.mode === "grid" ? "single" : "grid";
    localStorage.setItem("atelier.captions.mode", state.mode);
    bench.drawAll();
    bench.cards.get(state.focus)?.scrollIntoView({ block: "nearest" });
  };

  bench.drawBar = () => {
    const view = state.view;
    if (document.activeElement !== parts.folder) parts.folder.value = state.folder;
    if (document.activeElement !== parts.extension) parts.extension.value = state.extension;
    const other = bench.otherExtension();
    parts.other.hidden = !other;
    parts.other.textContent = say("Captions {extension}", { extension: other });
    parts.other.title = say("The data set has captions of their own for the second text encoder");
    parts.counts.textContent = view ? say("{pictures}, {count} captioned", { pictures: plural(view.total, "picture"), count: number(view.captioned) }) : "";
    parts.undo.disabled = !view?.undo;
    parts.redo.disabled = !view?.redo;
    parts.undo.title = view?.undo ? say("Undo: {title} (Ctrl+Z)", { title: view.undo }) : say("Nothing to undo");
    parts.redo.title = view?.redo ? say("Redo: {title} (Ctrl+Y)", { title: view.redo }) : say("Nothing to redo");
    parts.mode.textContent = state.mode === "grid" ? say("Single picture") : say("Grid");
    parts.fault.textContent = state.fault || (view?.problems || []).join("\n");
    drawStrip(view);
  };

  function drawStrip(view) {
    const help = bench.button(say("Filter language and keys"), () => (parts.help.hidden = !parts.help.hidden), { class: "link", id: "bench-help-open" });
    if (!view) return parts.strip.replaceChildren(help);
    const found = state.filter.trim() ? say("{count} of {pictures}", { count: number(view.matching), pictures: plural(view.total, "picture") }) : "";
    const pieces = [found && el("span", { id: "bench-found", text: found })];
    if (found) pieces.push(bench.button(say("Clear the filter"), () => bench.filterBy(""), { class: "link" }));
    if (state.selected.size) pieces.push(el("b", { id: "bench-selected", text: say("{count} selected", { count: number(state.selected.size) }) }));
    if (view.matching && state.selected.size < view.matching)
      pieces.push(bench.button(say("Select all {count}", { count: number(view.matching) }), bench.selectAll, { class: "link", id: "bench-select-all" }));
    if (state.selected.size) pieces.push(bench.button(say("Clear the selection"), bench.selectNone, { class: "link" }));
    if (state.drafts.size) pieces.push(el("span", { class: "unsaved", text: say("{count} unsaved", { count: state.drafts.size }) }),
      bench.button(say("Save all"), bench.saveAll, { class: "link" }));
    parts.strip.replaceChildren(...pieces.filter(Boolean), help);
  }

  // Drawn anew only when they are others: turning a page leaves them as they are.
  const tagMold = el("li", {}, el("button", { type: "button" }, el("span"), el("small")));
  let tagsDrawn = "", known = [], knownOffered = null;
  bench.drawTags = () => {
    const view = state.view, shown = view?.tags || [];
    if (!state.tagSearch) known = shown;
    const wanted = JSON.stringify([state.filter, view?.tag_count, shown]);
    if (wanted === tagsDrawn) return;
    tagsDrawn = wanted;
    parts.tagTitle.replaceChildren(say("Tags"), el("small", { text: view ? number(view.tag_count) : "" }));
    const hint = say("Click: filter by it. Alt+click: filter by its absence.");
    parts.tags.replaceChildren(...shown.map(([tag, count]) => {
      const made = tagMold.cloneNode(true), [button] = made.children, [name, many] = button.children;
      button.className = state.filter.includes(quoted(tag)) ? "on" : "";
      button.title = `${tag}\n${hint}`;
      button.dataset.tag = name.textContent = tag;
      many.textContent = number(count);
      return made;
    }));
    const more = (view?.tag_count || 0) - shown.length;
    if (more > 0) parts.tags.append(el("li", { class: "quiet", text: say("and {count} more", { count: number(more) }) }));
  };

  // The tags that entries offer while one types: put in when an entry is gone into.
  function offerKnown() {
    if (knownOffered !== known) parts.known.replaceChildren(...known.map((tag) => el("option", { value: tag[0] })));
    knownOffered = known;
  }

  const cardMold = el("figure", { role: "option" },
    el("div", { class: "frame" }, el("span", { class: "soon" }), el("input", { type: "checkbox", tabIndex: -1, "aria-label": say("Select") })),
    el("figcaption", {}, el("p"), el("small")));
  function onCard(event, act) {
    const card = event.target.closest("figure");
    if (card) act(card.title);
  }
  const drawn = new WeakMap(); // what each card shows
  function fill(made, item, limit) {
    const draft = bench.draft(item.id), text = draft ? draft.text : item.text;
    const [frame, about] = made.children, [words, facts] = about.children;
    const isFocus = item.id === state.focus, isChosen = state.selected.has(item.id);
    frame.querySelector("input").checked = isChosen; // a click has turned it
    const shows = JSON.stringify([text, !!draft, item.tokens, item.small, isFocus, isChosen, limit]);
    if (drawn.get(made) === shows) return;
    drawn.set(made, shows);
    made.title = item.id;
    made.classList.toggle("focus", isFocus);
    made.classList.toggle("chosen", isChosen);
    made.setAttribute("aria-selected", isChosen);
    if (words.textContent !== text) words.textContent = text;
    words.className = text ? "" : "quiet";
    if (!text) words.textContent = say("no caption");
    facts.replaceChildren(el("span", { text: item.name }), draft ? el("b", { class: "unsaved", text: say("unsaved") }) :
      el("span", { class: item.tokens > limit ? "over" : "", text: item.tokens === null || !item.text ? "" : plural(item.tokens, "token") }));
    const picture = frame.querySelector("img");
    if (item.small && (picture?.dataset.src || picture?.getAttribute("src")) !== item.small) {
      const fresh = el("img", { alt: "", draggable: false, decoding: "async" });
      (picture || frame.querySelector(".soon")).replaceWith(fresh);
      fresh.dataset.src = item.small;
      nearing.observe(fresh);
    } else if (item.small === "") frame.querySelector(".soon")?.replaceChildren(say("no preview"));
  }
  // A picture is fetched when it comes near what is seen: those far below would compete with the next question.
  const nearing = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      if (!isIntersecting) continue;
      nearing.unobserve(target);
      target.src = target.dataset.src;
      delete target.dataset.src;
    }
  }, { rootMargin: "500px" });
  bench.tokenLimit = () => Number(bench.fieldValue("captions.max_tokens")) || 75;

  bench.drawGrid = () => {
    const items = state.view?.items || [], focused = bench.item(), limit = bench.tokenLimit();
    bench.root.classList.toggle("single", state.mode === "single");
    const keep = new Set(items.map((item) => item.id));
    for (const id of [...bench.cards.keys()]) if (!keep.has(id)) bench.cards.delete(id);
    const cards = items.map((item) => {
      const made = bench.cards.get(item.id) || cardMold.cloneNode(true);
      bench.cards.set(item.id, made);
      fill(made, item, limit);
      return made;
    });
    const same = cards.length === parts.grid.children.length && cards.every((made, at) => made === parts.grid.children[at]);
    if (!same) parts.grid.replaceChildren(...cards);
    if (!items.length) parts.grid.replaceChildren(el("p", { class: "quiet empty", text: emptiness() }));
    drawLarge(focused);
    drawPages();
  };
  function emptiness() {
    if (state.fault) return "";
    if (!state.folder) return say("Choose a folder of images above, or on the tab Data set.");
    if (!state.view) return say("Looking …");
    return state.view.total ? say("No picture passes the filter. Change or clear it.") : say("There are no images in this folder. Choose another one above.");
  }

  // The single picture: a copy of up to 1280 px, asked for when it is shown.
  async function drawLarge(item) {
    if (!parts.large) parts.grid.before((parts.large = el("div", { id: "bench-large" })));
    parts.large.hidden = state.mode !== "single" || !item;
    if (parts.large.hidden || parts.large.dataset.of === item.id) return;
    parts.large.dataset.of = item.id;
    const image = el("img", { alt: item.name, src: item.small || "" });
    parts.large.replaceChildren(image, el("p", { class: "quiet", text: item.id }));
    const { url } = await bench.ask("large", { item: item.id });
    if (url && parts.large.dataset.of === item.id) image.src = url;
  }

  function drawPages() {
    const view = state.view, size = bench.hello.page_items;
    if (!view || view.matching <= size) return parts.pages.replaceChildren();
    const last = Math.min(view.first + size, view.matching);
    const turn = (first) => async () => {
      await bench.look({ first });
      parts.grid.scrollIntoView({ block: "start" });
    };
    parts.pages.replaceChildren(
      bench.button(say("‹ Back"), turn(view.first - size), { disabled: view.first === 0, id: "bench-back" }),
      el("span", { id: "bench-where", class: "quiet", text: say("{first} to {last} of {total}", { first: number(view.first + 1), last: number(last), total: number(view.matching) }) }),
      bench.button(say("More ›"), turn(view.first + size), { disabled: last >= view.matching, id: "bench-more" }));
  }

  function click(id, event) {
    if (event.target.type === "checkbox" || event.ctrlKey || event.metaKey) return select(id, event.shiftKey);
    if (event.shiftKey) return selectRange(id);
    if (state.selected.size) state.selected.clear();
    state.anchor = id;
    bench.focusOn(id);
    bench.drawBar();
  }
  function select(id, range) {
    if (range) return selectRange(id);
    state.selected.has(id) ? state.selected.delete(id) : state.selected.add(id);
    Object.assign(state, { anchor: id, focus: id });
    bench.drawAll();
  }
  async function selectRange(id) {
    const { ids = [] } = await bench.ask("ids", { filter: state.filter, sort: state.sort });
    const ends = [ids.indexOf(state.anchor ?? state.focus), ids.indexOf(id)].sort((a, b) => a - b);
    ids.slice(ends[0] < 0 ? ends[1] : ends[0], ends[1] + 1).forEach((each) => state.selected.add(each));
    state.focus = id;
    bench.drawAll();
  }
  bench.selectAll = async () => {
    const { ids = [] } = await bench.ask("ids", { filter: state.filter, sort: state.sort });
    ids.forEach((id) => state.selected.add(id));
    bench.drawAll();
  };
  bench.selectNone = () => {
    state.selected.clear();
    bench.drawAll();
  };

  const columns = () => getComputedStyle(parts.grid).gridTemplateColumns.split(" ").length;
  const PLAIN = {
    ArrowRight: () => bench.move(1), ArrowLeft: () => bench.move(-1), j: () => bench.move(1), k: () => bench.move(-1),
    ArrowDown: () => bench.move(state.mode === "grid" ? columns() : 1), ArrowUp: () => bench.move(state.mode === "grid" ? -columns() : -1),
    Enter: () => bench.edit(), " ": () => state.focus !== null && select(state.focus, false), g: () => bench.toggleMode(),
    "/": () => parts.filter.focus(), Escape: () => bench.selectNone(),
  };
  const WITH_CONTROL = { z: () => bench.undo(), y: () => bench.redo(), a: () => bench.selectAll() };
  document.addEventListener("keydown", (event) => {
    if (!bench.root?.offsetParent || document.getElementById("full-picture") || event.defaultPrevented) return;
    const target = event.target;
    if (target.matches?.("textarea, select, input:not([type=checkbox]), [contenteditable]")) {
      if (event.key === "Escape" && bench.root.contains(target)) target.blur();
      return;
    }
    if (target.matches?.("button, a, summary") && (event.key === "Enter" || event.key === " ")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    let action = null;
    if (event.ctrlKey || event.metaKey) action = event.shiftKey && key === "z" ? WITH_CONTROL.y : WITH_CONTROL[key];
    else if (!event.altKey) action = PLAIN[key];
    if (!action || !state.view) return;
    event.preventDefault();
    action();
  });
})();
