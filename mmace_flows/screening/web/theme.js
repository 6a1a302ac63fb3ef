// The theme that was chosen last, before anything is drawn; without a choice the system's holds.
(() => {
  const chosen = localStorage.getItem("mmace-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
