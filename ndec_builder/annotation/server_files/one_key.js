// 1/2/3/4: Label Studio's own hotkey selects the choice; then this clicks Submit. Keys are ignored until both pictures
// are there (nobody can have judged them before) and until the pair on screen has changed (the label is saved).
(() => {
  const PATIENCE_MS = 15000; // a save that takes longer has failed: let the person try again
  let savingSince = 0;
  let savedPair = "";
  const pictures = () => [...document.querySelectorAll(".ndec img")];
  // Label Studio fetches each picture anew for each pair and gives it a fresh blob: address.
  const pair = () => pictures().map((image) => image.src).join(" ");
  const ready = () => {
    const images = pictures();
    return images.length >= 2 && images.every((image) => image.complete && image.naturalWidth > 0);
  };
  const submitButton = () =>
    [...document.querySelectorAll("button")].find((button) => button.textContent.trim().toLowerCase() === "submit");
  const chosen = () => document.querySelector(".ndec input[type=radio]:checked");
  const typing = (target) => target && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) &&
    !/^(radio|checkbox|button)$/.test(target.type));

  const submitWhenChosen = (started) => {
    const button = submitButton();
    if (button && !button.disabled && chosen()) {
      button.click();
    } else if (performance.now() - started < 2000) {
      setTimeout(submitWhenChosen, 20, started);
    } else {
      savingSince = 0;
    }
  };

  window.addEventListener("keydown", (event) => {
    if (!/^[1-4]$/.test(event.key) || event.ctrlKey || event.altKey || event.metaKey || typing(event.target)) return;
    if (!document.querySelector(".ndec") || !submitButton()) return; // another page, or a label made before: as usual
    const now = performance.now();
    const saving = savingSince && now - savingSince < PATIENCE_MS && pair() === savedPair;
    if (saving || event.repeat || !ready()) {
      event.preventDefault();
      event.stopImmediatePropagation();
      return;
    }
    savingSince = now;
    savedPair = pair();
    setTimeout(submitWhenChosen, 20, now);
  }, true);
})();
