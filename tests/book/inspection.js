// What a page shows, as one object, so that one visit of the browser answers every question of the tests.
// `contrast` is the least ratio of luminances that text of a figure may have to what lies behind it.
contrast => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const named = texts => texts.some(text => text?.trim());
  const short = element => element.outerHTML.slice(0, 120);

  // Widths
  const scrolls = element => ['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(element).overflowX);
  const held = element => {
    for (let up = element.parentElement; up && up !== document.body; up = up.parentElement) if (scrolls(up)) return true;
    return false;
  };
  const root = document.documentElement;
  const wide = all('.bd-article *:not(svg *, mjx-container *)')  // which are cut off, or scroll, with what holds them
    .filter(each => each.getBoundingClientRect().right > innerWidth + 1 && !held(each))
    .map(each => `${each.tagName}.${each.className}`);

  // Names. An image with empty alternative text is decoration: it may only stand in a link or a button that has words
  // of its own. The theme's icons are hidden from those who do not see them; their buttons have names.
  const images = all('img, svg[role=img]:not([aria-hidden=true])').filter(each => {
    const label = each.getAttribute(each.tagName === 'IMG' ? 'alt' : 'aria-label');
    const decorates = label === '' && each.closest('a, button')?.textContent.trim();
    return !(named([label, each.querySelector('title')?.textContent]) || decorates);
  });
  const controls = all('a[href], button').filter(
    each => !named([each.ariaLabel, each.title, each.textContent, each.querySelector('img')?.alt]));

  // Figures
  const figures = all('figure.tb-figure').map(figure => ({
    caption: figure.querySelector('figcaption')?.innerText.trim() ?? '',
    alternative: figure.querySelector('[role=img]')?.getAttribute('aria-label')?.trim() ?? '',
  }));

  // Contrast of text in figures, over all that is painted behind it
  const channels = colour => colour.match(/[\d.]+/g).map(Number);
  const over = (top, below) => {
    const alpha = top[3] ?? 1;
    return [0, 1, 2].map(i => alpha * top[i] + (1 - alpha) * below[i]);
  };
  const luminance = colour => {
    const [r, g, b] = colour.map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    const layers = [];
    for (let up = element; up; up = up.parentElement) {
      const colour = channels(getComputedStyle(up).backgroundColor);
      layers.push(colour);
      if ((colour[3] ?? 1) === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const opacity = (element, until) => {
    let share = Number(getComputedStyle(element).fillOpacity);
    for (let up = element; up !== until; up = up.parentElement) share *= Number(getComputedStyle(up).opacity);
    return share;
  };
  const ratio = (text, figure, below) => {
    const fill = channels(getComputedStyle(text).fill);
    // text on an image has a plate of its own, which is read at its worst: over what is as bright as the text
    const plate = text.parentElement.querySelector(':scope > g[id*=patch] > path');
    const painted = plate && [...channels(getComputedStyle(plate).fill).slice(0, 3), opacity(plate, figure)];
    const ground = plate ? over(painted, luminance(fill) > 0.5 ? [255, 255, 255] : [0, 0, 0]) : below;
    const colour = over([...fill.slice(0, 3), (fill[3] ?? 1) * opacity(text, figure)], ground);
    const [dark, light] = [luminance(colour), luminance(ground)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const texts = all('figure.tb-figure').flatMap(figure => {
    const below = behind(figure);
    return all('svg text', figure).map(text => [text.textContent.trim(), ratio(text, figure, below)]);
  });

  const count = selector => all(selector).length;
  return {
    theme: root.dataset.theme,
    overhang: root.scrollWidth - root.clientWidth,
    wide: wide.slice(0, 5),
    headings: all('h1').filter(each => each.checkVisibility()).map(each => each.innerText.trim()),  // one more is for print
    traceback: document.body.innerText.includes('Traceback'),
    printed: all('.bd-article :is(p, li, td, figcaption)').map(each => each.innerText).filter(
      text => /Empty DataFrame|\bdtype:| object at 0x/.test(text)),  // an object of Python where words should be
    imagesWithoutText: images.map(short),
    controlsWithoutName: controls.map(short),
    figures,
    viewers: count('figure.tb-viewer'),
    textsOfFigures: texts.length,
    unreadable: texts.filter(each => each[1] < contrast).map(([text, found]) => `${text}: ${found.toFixed(2)}`),
    formulas: [count('.math'), count('mjx-container'), count('mjx-merror')],
  };
}
