// Copying: by the clipboard, or the old way on pages that are not served over https.

function copyOldWay(text) {
  const area = document.createElement('textarea');
  area.value = text;
  area.className = 'unseen';
  const before = document.activeElement;
  // beside what has the focus: behind an open dialog nothing can be chosen
  (before?.parentElement ?? document.body).append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  before?.focus({ preventScroll: true });
  return done;
}

/** Copies a text. Whether the browser let it. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyOldWay(text);
  }
}
