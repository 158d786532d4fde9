/** Work that is painted: at most once a frame, and less often when a frame's work is heavy, so that typing stays quick. */

/** A paint may use this share of the time. */
const SHARE = 3;

export function painter(work: () => void): () => void {
  let asked = false;
  let restUntil = 0;
  const run = (): void => {
    const start = performance.now();
    if (start < restUntil && !document.hidden) {
      requestAnimationFrame(run);
      return;
    }
    asked = false;
    work();
    const cost = performance.now() - start;
    restUntil = cost > 5 ? start + cost * (1 + SHARE) : 0;
  };
  return () => {
    if (asked) return;
    asked = true;
    /* A hidden tab gets no frames; its list and title must still move on. */
    if (document.hidden) setTimeout(run, 250);
    else requestAnimationFrame(run);
  };
}
