// The part of the tab Training that looks ahead: three steps measured, and changes that make the run fit the card.
window.atelierForecast = (() => {
  const { el } = window.atelier;
  const LOOK_MS = 1000;
  const byId = (id) => document.getElementById(id);
  const press = {
    measure: () => measured("measure"),
    "measure-cancel": () => measured("cancel"),
    fit: propose,
    "fit-apply": apply,
    "fit-undo": undo,
  };
  document.addEventListener("click", ({ target }) => press[target.closest?.("#forecast-panel button")?.id]?.());

  const put = (id, values) => Object.assign(byId(id) || {}, values); // its tab may not be drawn yet
  const tell = ({ message = "" }) => put("forecast-message", { innerHTML: message });
  async function measured(what) {
    const answer = await window.atelierForm.act(what);
    tell(answer);
    put("measure", { disabled: answer.goes_on === true });
    put("measure-cancel", { hidden: answer.goes_on !== true });
    if (answer.goes_on) setTimeout(follow, LOOK_MS);
    else window.atelierForm.look(); // the forecast knows more now
  }
  const follow = () => measured("measured");

  function showChanges(changes) {
    const rows = changes.map(([words, values]) => el("label", {}, box(values), el("span", { text: words })));
    byId("fit-changes").replaceChildren(...rows);
    byId("fit-changes").hidden = byId("fit-apply").hidden = !rows.length;
  }
  function box(value) {
    const made = el("input", { checked: true, value });
    made.setAttribute("type", "checkbox");
    return made;
  }
  async function propose() {
    const gb = document.querySelector("#fit-gb input").value;
    const answer = await window.atelierForm.act("fit", { gb });
    tell(answer);
    showChanges(answer.changes || []);
    byId("fit-undo").hidden = true;
  }
  async function apply() {
    const ticked = [...document.querySelectorAll("#fit-changes input:checked")].map((one) => one.value);
    const answer = await window.atelierForm.act("fit_apply", { changes: ticked });
    tell(answer);
    if (!answer.shown) return;
    showChanges([]);
    byId("fit-undo").hidden = false;
  }
  async function undo() {
    tell(await window.atelierForm.act("fit_undo"));
    showChanges([]);
    byId("fit-undo").hidden = true;
  }
  return { follow };
})();
