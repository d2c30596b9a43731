// The fields that fields.py draws, read and filled by group ("form", or a tool): {name: what is entered}. What is entered
// is kept here, so that a field which is drawn later shows it, and one that is not drawn yet has a value.
window.atelierFields = (() => {
  const groups = {};
  const groupOf = (name) => (groups[name] ||= { values: {}, heard: [] });
  const entryOf = (field) => field.querySelector("[data-entry]");

  const read = {
    bool: (entry) => entry.checked,
    number: (entry) => (entry.value === "" ? null : Number(entry.value)),
    text: (entry) => entry.value,
  };
  function fill(field, value) {
    const entry = entryOf(field);
    if (field.dataset.kind === "bool") entry.checked = value === true;
    else entry.value = value ?? "";
    const slider = field.querySelector("input[type=range]");
    if (slider) slider.value = entry.value;
    if (entry.tagName === "TEXTAREA") fit(entry);
  }
  // A text of many lines is as high as its text, up to a limit.
  function fit(entry) {
    entry.rows = Math.max(4, Math.min(14, entry.value.split("\n").length));
  }
  const fieldsOf = (group) => document.querySelectorAll(`.field[data-group="${group}"]`);

  // An element with fields was drawn: they show what is known of them, or tell what they hold.
  function drawn(element) {
    element.querySelectorAll(".field[data-group]").forEach((field) => {
      const { group, name, kind } = field.dataset;
      const { values } = groupOf(group);
      if (name in values) fill(field, values[name]);
      else values[name] = read[kind](entryOf(field));
    });
  }
  function show(group, shown) {
    Object.assign(groupOf(group).values, shown);
    fieldsOf(group).forEach((field) => {
      if (field.dataset.name in shown) fill(field, shown[field.dataset.name]);
    });
  }
  document.addEventListener("input", ({ target }) => {
    const field = target.closest?.(".field[data-group]");
    if (!field) return;
    const entry = entryOf(field);
    if (target !== entry && target.type === "range") entry.value = target.value;
    const { group, name, kind } = field.dataset;
    groupOf(group).values[name] = read[kind](entry);
    const slider = field.querySelector("input[type=range]");
    if (slider && slider !== target) slider.value = entry.value;
    if (entry.tagName === "TEXTAREA") fit(entry);
    groupOf(group).heard.forEach((hear) => hear(name));
  });

  // The content of all groups, as the first input of an event of Gradio's: see tool_panel.py.
  const given = () => JSON.stringify(Object.fromEntries(Object.entries(groups).map(([name, { values }]) => [name, values])));

  return { drawn, show, given, values: (group) => ({ ...groupOf(group).values }), hear: (group, hear) => groupOf(group).heard.push(hear) };
})();
