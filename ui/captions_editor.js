// The Captions tab: the caption being edited, what several have in common, and an edit that came second.
(() => {
  const bench = window.atelierBench;
  const { state, el, parts } = bench, { say, plural } = window.atelier;
  let shownFor = "";
  let conflict = null; // {item, theirs, digest, merged, mine}

  bench.drawPanel = () => {
    if (!state.view) return parts.panel.replaceChildren();
    if (!parts.panelBody) {
      parts.panelTabs = [["caption", say("Caption")], ["change", say("Change many")], ["history", say("History")]].map(([name, title]) =>
        bench.button(title, () => bench.showPanel(name), { id: `bench-panel-${name}` }));
      parts.panelBody = el("div", { id: "bench-panel-body" });
    }
    if (!parts.panelBody.isConnected) parts.panel.replaceChildren(el("div", { class: "segments" }, ...parts.panelTabs), parts.panelBody);
    parts.panelTabs.forEach((tab) => tab.classList.toggle("on", tab.id === `bench-panel-${state.panel}`));
    if (state.panel === "change") return draw("change", bench.buildChange, bench.drawScope);
    if (state.panel === "history") return draw(`history ${state.view.version}`, bench.buildHistory);
    if (conflict) return draw(`conflict ${conflict.item} ${conflict.digest}`, buildConflict);
    if (state.selected.size > 1) return draw(`several ${[...state.selected].join("|")} ${state.view.version}`, buildSeveral);
    const item = bench.item();
    if (!item) return draw("none", () => [el("p", { class: "quiet", text: say("Choose a picture.") })]);
    draw(`item ${item.id}`, () => buildEditor(item), () => fillEditor(item));
  };
  bench.showPanel = (name) => {
    state.panel = name;
    bench.drawPanel();
  };
  // Built anew only when it is about something else, so that a caret stays where it is.
  function draw(about, build, fill = null) {
    if (shownFor !== about) {
      shownFor = about;
      parts.panelBody.replaceChildren(...build());
    }
    fill?.();
  }

  function buildEditor(item) {
    parts.text = el("textarea", { id: "bench-text", rows: 7, spellcheck: false, "aria-label": say("Caption of {name}", { name: item.name }),
      placeholder: say("no caption yet"), disabled: item.locked, oninput: () => typed(item.id), onkeydown: editorKeys });
    parts.meter = el("div", { class: "meter" }, el("i"));
    parts.facts = el("p", { class: "quiet", id: "bench-facts" });
    parts.note = el("p", { class: "note" });
    parts.save = bench.button(say("Save"), () => bench.save(), { id: "bench-save", class: "primary", title: "Ctrl+Enter" });
    parts.revert = bench.button(say("Revert"), () => revert(item.id), { id: "bench-revert" });
    const next = bench.button(say("Save and next"), saveAndNext, { title: "Ctrl+Shift+Enter" });
    parts.head = el("p", { class: "title" }, el("b", { text: item.name }), el("small", { text: item.folder }));
    parts.text.value = bench.draft(item.id)?.text ?? item.text;
    return [parts.head, parts.text, parts.meter, parts.facts, parts.note, el("div", { class: "bench-row" }, parts.save, next, parts.revert)];
  }
  function fillEditor(item) {
    const draft = bench.draft(item.id);
    if (!draft && parts.text.value !== item.text) parts.text.value = item.text;
    parts.save.disabled = parts.revert.disabled = !draft;
    parts.note.textContent = item.note || "";
    facts(draft ? draft.tokens ?? null : item.tokens);
  }
  function facts(tokens) {
    const text = parts.text.value, limit = bench.tokenLimit();
    const tags = text.split(/\n/).flatMap((line) => line.split(state.separator)).filter((tag) => tag.trim()).length;
    const over = tokens !== null && tokens > limit;
    const places = { tokens, limit, rest: tokens - limit };
    const read = tokens === null ? say("… tokens") : over
      ? say("{tokens} of {limit} tokens: the last {rest} are not read", places) : say("{tokens} of {limit} tokens", places);
    parts.facts.replaceChildren(el("span", { class: over ? "over" : "", text: read, title: say("Both text encoders cut a caption into the same tokens.") }),
      el("span", { text: plural(tags, "tag") }), el("span", { text: plural(text.length, "character") }));
    parts.meter.classList.toggle("over", over);
    parts.meter.firstChild.style.width = `${Math.min(100, ((tokens || 0) / limit) * 100)}%`;
  }

  let counting = 0;
  function typed(id) {
    const item = bench.item(id), text = parts.text.value;
    const draft = bench.draft(id) || { base: item.text, digest: item.digest };
    text === draft.base ? state.drafts.delete(id) : state.drafts.set(id, { ...draft, text, tokens: draft.tokens ?? item.tokens });
    clearTimeout(counting);
    counting = setTimeout(async () => {
      const { tokens = null } = await bench.ask("count", { text });
      const kept = bench.draft(id);
      if (kept) kept.tokens = tokens;
      if (state.focus === id && kept) facts(tokens);
    }, 250);
    bench.drawBar();
    bench.drawGrid();
    fillEditor(item);
  }
  function revert(id) {
    state.drafts.delete(id);
    parts.text.value = bench.item(id)?.text ?? "";
    bench.drawAll();
  }
  bench.edit = () => {
    if (state.selected.size > 1) return document.getElementById("bench-add")?.focus();
    bench.showPanel("caption");
    parts.text?.focus();
    parts.text?.setSelectionRange(parts.text.value.length, parts.text.value.length);
  };
  function editorKeys(event) {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    if (event.shiftKey) return saveAndNext();
    parts.text.blur();
    bench.save();
  }
  async function saveAndNext() {
    if (!(await bench.save())) return;
    await bench.move(1);
    bench.edit();
  }

  // Save a draft. One that came second is shown with what is in the file now, and nothing is written.
  bench.save = async (id = state.focus) => {
    const draft = bench.draft(id);
    if (!draft) return true;
    const answer = await bench.ask("edit", { item: id, text: draft.text, digest: draft.digest, base: draft.base });
    if (answer.conflicts?.length) {
      conflict = { ...answer.conflicts[0], mine: draft.text };
      state.focus = id;
      bench.showPanel("caption");
      return false;
    }
    bench.told(answer, answer.count ? say("Saved.") : say("Nothing to save: the file says the same."));
    if (answer.error || answer.failed_count) return false;
    if (bench.draft(id)?.text === draft.text) state.drafts.delete(id);
    await bench.look({ quiet: true });
    return true;
  };
  bench.saveAll = async () => {
    for (const id of [...state.drafts.keys()]) if (!(await bench.save(id))) return;
  };

  function buildConflict() {
    const { item, theirs, digest, merged, mine } = conflict;
    const text = el("textarea", { id: "bench-merged", rows: 6, value: merged, spellcheck: false, "aria-label": say("Both put together") });
    const settle = async (chosen) => {
      conflict = null;
      if (chosen === theirs) state.drafts.delete(item);
      else state.drafts.set(item, { text: chosen, base: theirs, digest });
      if (chosen !== theirs) await bench.save(item);
      else await bench.look({ quiet: true });
      shownFor = "";
      bench.drawAll();
    };
    return [
      el("div", { class: "fault", id: "bench-conflict" }, el("p", { text: say("This caption was changed elsewhere since you began.") }),
        el("span", { text: say("Nothing was written yet. Choose what is to stand in the file.") })),
      el("h5", { text: say("In the file now") }), bench.difference(mine, theirs), bench.button(say("Take theirs"), () => settle(theirs), { id: "bench-theirs" }),
      el("h5", { text: say("Yours") }), bench.difference(theirs, mine), bench.button(say("Take mine"), () => settle(mine), { id: "bench-mine" }),
      el("h5", { text: say("Both put together") }), text,
      bench.button(say("Save merged"), () => settle(text.value), { id: "bench-merge", class: "primary" }),
    ];
  }

  // What several selected captions have in common; tags are added to all and taken from all at once.
  function buildSeveral() {
    const selected = [...state.selected];
    const list = el("ul", { id: "bench-common" });
    const add = el("input", { id: "bench-add", type: "text", list: "bench-known", placeholder: say("add tags"), "aria-label": say("Add tags") });
    const where = el("select", { "aria-label": say("Where") }, el("option", { value: "end", text: say("at the end") }), el("option", { value: "start", text: say("at the start") }));
    const put = () => add.value.trim() && bench.changeAtOnce("add_tag", { new: add.value, place: where.value });
    add.addEventListener("keydown", (event) => event.key === "Enter" && put());
    bench.ask("selection", { selected }).then(({ tags = [], count = 0 }) => list.replaceChildren(...tags.map(([tag, found]) =>
      el("li", { class: found === count ? "all" : "" }, el("span", { text: tag }), el("small", { text: found === count ? say("all") : `${found}` }),
        bench.button("×", () => bench.changeAtOnce("delete_tag", { old: tag }), { title: say("Take “{tag}” out of the selected captions", { tag }) })))));
    return [
      el("p", { class: "title" }, el("b", { text: say("{pictures} selected", { pictures: plural(selected.length, "picture") }) })),
      el("div", { class: "bench-row" }, add, where, bench.button(say("Add"), put, { id: "bench-add-button" })),
      el("h5", { text: say("Their tags") }), list,
      bench.button(say("Change them in another way …"), () => bench.showPanel("change"), { class: "link" }),
    ];
  }
  // A change that needs no look before: one click, and one click undoes it.
  bench.changeAtOnce = async (operation, values) => {
    const found = await bench.ask("preview", { operation, values, scope: "selected", selected: [...state.selected] });
    if (found.error) return bench.toast(found.error, { bad: true });
    const answer = await bench.ask("apply", { preview: found.key });
    bench.told(answer, say("{title}: {captions} changed.", { title: found.title, captions: plural(answer.count || 0, "caption") }));
    await bench.look({ quiet: true });
    shownFor = "";
    bench.drawPanel();
  };

  // Words of `after`, with those that `before` has not marked, and those that it alone has struck out.
  bench.difference = (before, after) => {
    const cut = (text) => text.match(/\s+|[^\s,]+|,/g) || [];
    const a = cut(before).slice(0, 400), b = cut(after).slice(0, 400);
    const common = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
    for (let i = a.length - 1; i >= 0; i--)
      for (let j = b.length - 1; j >= 0; j--)
        common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
    const shown = el("p", { class: "difference" });
    const add = (tag, text) => {
      if (tag && shown.lastChild?.nodeName === tag.toUpperCase()) shown.lastChild.append(text);
      else shown.append(tag ? el(tag, { text }) : text);
    };
    let i = 0, j = 0;
    while (i < a.length || j < b.length) {
      if (i < a.length && j < b.length && a[i] === b[j]) add("", a[i++], j++);
      else if (j >= b.length || (i < a.length && common[i + 1][j] >= common[i][j + 1])) add("del", a[i++]);
      else add("ins", b[j++]);
    }
    if (!shown.childNodes.length) shown.append(el("span", { class: "quiet", text: say("empty") }));
    return shown;
  };
})();
