// What axe finds on a page against the rules of `standards`, none for none, and against its rule of contrast.
// Contrast takes axe seconds for hundreds of texts, so of all texts that look alike (colour, ground, size) it sees one.
async standards => {
  // Of figures and formulas only the outside is looked at: what is drawn inside has a test of its own, through all that
  // is painted behind it, and tens of thousands of elements. Roles of references are docutils' own.
  const pictures = document.querySelectorAll('figure.tb-figure svg, mjx-container');
  const drawn = [...pictures].map(each => [each, [...each.childNodes]]);
  drawn.forEach(([each]) => each.replaceChildren());

  const behind = element => {  // all that is painted behind a text, down to what hides the rest
    const layers = [];
    for (let up = element; up; up = up.parentElement) {
      const {backgroundColor, backgroundImage, opacity} = getComputedStyle(up);
      layers.push(backgroundColor, backgroundImage, opacity);
      if (backgroundColor.startsWith('rgb(')) break;
    }
    return layers.filter(each => !['rgba(0, 0, 0, 0)', 'none', '1'].includes(each));
  };
  const look = element => {
    const {color, fontSize, fontWeight} = getComputedStyle(element);
    return [color, fontSize, fontWeight, ...behind(element)].join();
  };
  const written = element => [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  const seen = new Map();
  for (const each of document.querySelectorAll('body *')) {
    if (!written(each) || !each.checkVisibility({visibilityProperty: true})) continue;
    const alike = look(each);
    if (!seen.has(alike)) seen.set(alike, each);
  }
  seen.forEach(each => each.setAttribute('data-one', ''));

  axe.configure({rules: [{id: 'color-contrast', selector: '[data-one]'}]});
  const {violations} = await axe.run({exclude: [['.citation-list']]}, {
    runOnly: standards.length ? standards : ['color-contrast'],
    resultTypes: ['violations'],
    selectors: false,  // nobody asks for them
    preload: false,  // the style sheets would be fetched again, from wrong addresses
  });
  seen.forEach(each => each.removeAttribute('data-one'));
  drawn.forEach(([each, inside]) => each.replaceChildren(...inside));
  const faults = violations.map(({id, nodes}) => `${id}: ${nodes[0].html.slice(0, 150)} (${nodes.length})`);
  return {looks: seen.size, faults};
}
