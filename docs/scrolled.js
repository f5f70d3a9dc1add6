// Wide tables are scrolled by keyboard, too; the theme puts them into boxes after a page is loaded.
document$.subscribe(() => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap")) box.tabIndex = 0;
});
