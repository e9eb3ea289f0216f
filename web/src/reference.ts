// The search field of the API reference: hides the operations that lack a word. The page reads without it.
const field = document.querySelector<HTMLInputElement>('#find');
const none = document.querySelector<HTMLElement>('#none');
if (field && none) {
  const every = document.querySelectorAll<HTMLElement>('[data-find]');
  field.hidden = false;
  field.addEventListener('input', () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const one of every) {
      one.hidden = !words.every((w) => one.dataset.find?.includes(w));
      left += Number(!one.hidden);
    }
    for (const group of document.querySelectorAll<HTMLElement>('.group')) group.hidden = words.length > 0 && !group.querySelector('.op[data-find]:not([hidden])');
    none.hidden = left > 0;
  });
}
