// The Captions tab: operations on many captions. First a look at what would change, then the change, then Undo.
(() => {
  const bench = window.atelierBench;
  const { state, el, parts } = bench, { say, plural } = window.atelier;
  const STORE = "atelier.captions.operations";
  const stored = () => {
    try {
      return JSON.parse(localStorage.getItem(STORE)) || {};
    } catch {
      return {};
    }
  };
  let chosen = null;
  let looked = 0;

  bench.buildChange = () => {
    chosen ??= bench.hello.operations[0].name;
    const choice = el("select", { id: "bench-operation", "aria-label": say("Operation"), onchange: () => ((chosen = choice.value), drawForm()) },
      ...bench.hello.operations.map(({ name, title }) => el("option", { value: name, text: title, selected: name === chosen })));
    parts.form = el("div", { id: "bench-form" });
    parts.scope = el("select", { id: "bench-scope", "aria-label": say("Captions to change"), onchange: () => parts.result.replaceChildren() });
    parts.result = el("div", { id: "bench-result" });
    drawForm();
    return [choice, parts.form, el("label", { class: "entry" }, el("span", { text: say("In") }), parts.scope),
      bench.button(say("Look"), look, { id: "bench-look" }), parts.result];
  };

  bench.drawScope = () => {
    const kept = parts.scope.value, view = state.view;
    const choices = [["filtered", state.filter.trim() ? say("what the filter shows ({count})", { count: view.matching.toLocaleString("en") }) : say("all pictures ({count})", { count: view.total.toLocaleString("en") })]];
    if (state.filter.trim()) choices.push(["all", say("all pictures ({count})", { count: view.total.toLocaleString("en") })]);
    if (state.selected.size) choices.unshift(["selected", say("the selected ones ({count})", { count: state.selected.size.toLocaleString("en") })]);
    const signature = JSON.stringify(choices);
    if (parts.scope.dataset.of === signature) return;
    const had = new Set([...parts.scope.options].map((option) => option.value));
    parts.scope.dataset.of = signature;
    parts.scope.replaceChildren(...choices.map(([value, text]) => el("option", { value, text })));
    const isNew = choices[0][0] === "selected" && !had.has("selected");
    parts.scope.value = !isNew && choices.some(([value]) => value === kept) ? kept : choices[0][0];
    parts.result.replaceChildren();
  };

  function drawForm() {
    const kind = bench.hello.operations.find(({ name }) => name === chosen), values = stored()[chosen] || {};
    const entries = kind.fields.map((field) => {
      const value = values[field.name] ?? field.default, name = `bench-value-${field.name}`;
      const about = field.about ? el("small", { class: "quiet", text: field.about }) : null;
      let input;
      if (field.kind === "check") input = el("input", { id: name, type: "checkbox", checked: value });
      else if (field.kind === "choice") input = el("select", { id: name }, ...field.choices.map(([key, text]) => el("option", { value: key, text, selected: key === value })));
      else if (field.kind === "lines") input = el("textarea", { id: name, rows: field.default ? 9 : 3, value, spellcheck: false });
      else input = el("input", { id: name, type: "text", value, list: /^(old|new|word|except)$/.test(field.name) && chosen !== "find_replace" ? "bench-known" : null, spellcheck: false, autocomplete: "off", onkeydown: (event) => event.key === "Enter" && look() });
      input.dataset.name = field.name;
      input.addEventListener("input", () => parts.result.replaceChildren());
      return field.kind === "check"
        ? el("label", { class: "entry check" }, input, el("span", { text: field.label }), about)
        : el("label", { class: "entry" }, el("span", { text: field.label }), input, about);
    });
    parts.form.replaceChildren(el("p", { class: "quiet", text: kind.about }), ...entries);
    parts.result.replaceChildren();
  }
  function formValues() {
    const entries = [...parts.form.querySelectorAll("[data-name]")];
    return Object.fromEntries(entries.map((input) => [input.dataset.name, input.type === "checkbox" ? input.checked : input.value]));
  }

  async function look() {
    const values = formValues(), mine = ++looked;
    localStorage.setItem(STORE, JSON.stringify({ ...stored(), [chosen]: values }));
    parts.result.replaceChildren(el("p", { class: "quiet", text: say("Looking …") }));
    const answer = await bench.ask("preview", {
      operation: chosen, values, scope: parts.scope.value, filter: state.filter, selected: [...state.selected],
    });
    if (mine !== looked) return;
    if (answer.error) return parts.result.replaceChildren(el("p", { class: "fault", text: answer.error }));
    const summary = answer.changed
      ? say("{captions} of {total} would change.", { captions: plural(answer.changed, "caption"), total: answer.considered.toLocaleString("en") })
      : say("None of {captions} would change.", { captions: plural(answer.considered, "caption") });
    const groups = answer.groups.map(({ kept, spellings }) => el("li", {},
      el("b", { text: kept }), el("span", { class: "quiet", text: " ← " + spellings.map(([tag, count]) => `${tag} (${count})`).join(", ") })));
    parts.result.replaceChildren(
      el("p", { id: "bench-summary", text: summary }),
      ...(groups.length ? [el("ul", { class: "groups" }, ...groups)] : []),
      ...answer.examples.map(({ item, before, after }) => el("div", { class: "example" }, el("small", { class: "quiet", text: item }), bench.difference(before, after))),
      ...(answer.changed > answer.examples.length ? [el("p", { class: "quiet", text: say("and {count} more", { count: (answer.changed - answer.examples.length).toLocaleString("en") }) })] : []),
      ...(answer.changed ? [bench.button(say("Apply to {captions}", { captions: plural(answer.changed, "caption") }), () => apply(answer), { id: "bench-apply", class: "primary" })] : []));
    parts.panel.scrollTo({ top: parts.result.offsetTop - parts.panel.offsetTop - 60, behavior: "smooth" });
  }
  async function apply({ key, title }) {
    document.getElementById("bench-apply").disabled = true;
    parts.result.append(el("p", { class: "quiet", text: say("Writing …") }));
    const answer = await bench.ask("apply", { preview: key });
    parts.result.replaceChildren();
    bench.told(answer, say("{title}: {captions} changed.", { title, captions: plural(answer.count || 0, "caption") }));
    await bench.look({ quiet: true });
  }
})();
