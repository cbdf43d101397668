"""Looks at the pages of expunge serve and at a report with a real browser.

python pages.py look CONFIG: visits every page of base in light, dark and print,
wide and narrow, uses the keyboard alone, and prints what is wrong as one JSON
object: {"problems": [...], "slowest": {page: milliseconds}, "visited": n}.
"""

import base64
import json
import os
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.chrome.service import Service

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars"]

# Text whose contrast with what lies behind it is below WCAG AA (4.5, large text 3).
CONTRAST = """
const lum = c => { const f = c.map(v => { v /= 255; return v <= .03928 ? v / 12.92 : Math.pow((v + .055) / 1.055, 2.4) });
  return .2126 * f[0] + .7152 * f[1] + .0722 * f[2] };
const rgb = s => s.match(/[\\d.]+/g).map(Number);
const back = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c.slice(0, 3) }
  return matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255] };
const bad = new Set(), walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let n; n = walk.nextNode();) { const e = n.parentElement; if (!n.textContent.trim() || e.closest('script,style,title,.sr') || !e.getClientRects().length) continue;
  const s = getComputedStyle(e), a = lum(rgb(s.color)), b = lum(back(e)), r = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  const px = parseFloat(s.fontSize), large = px >= 24 || px >= 18.66 && parseInt(s.fontWeight) >= 700;
  if (r < (large ? 3 : 4.5)) bad.add(e.tagName + '.' + e.className + ' ' + r.toFixed(2) + ': ' + n.textContent.trim().slice(0, 40)) }
return [...bad];
"""

# What is wider than the window, scrolling boxes aside.
OVERFLOW = """
const w = document.documentElement.clientWidth; const out = [];
if (document.documentElement.scrollWidth > w) { for (const e of document.body.querySelectorAll('*')) {
  if (e.closest('.scroll,pre,.sr') && !e.matches('.scroll,pre')) continue; const r = e.getBoundingClientRect();
  if (r.right > w + 1 && r.width > 0) out.push(e.tagName + '.' + e.className + ' ' + Math.round(r.right)) }
  if (!out.length) out.push('page ' + document.documentElement.scrollWidth) }
return out.slice(0, 5);
"""

# Structure that assistive technology needs.
STRUCTURE = """
const out = [];
if (document.querySelectorAll('h1').length !== 1) out.push(document.querySelectorAll('h1').length + ' h1');
if (!document.documentElement.lang || !document.title) out.push('no language or title');
let last = 0; for (const h of document.querySelectorAll('h1,h2,h3,h4')) { const n = +h.tagName[1]; if (n > last + 1 && last) out.push('heading level ' + last + ' to ' + n + ': ' + h.textContent); last = n }
const ids = new Set(); for (const e of document.querySelectorAll('[id]')) { if (ids.has(e.id)) out.push('id twice: ' + e.id); ids.add(e.id) }
for (const a of document.querySelectorAll('a[href^="#"]')) if (!document.getElementById(a.getAttribute('href').slice(1))) out.push('link to nowhere: ' + a.getAttribute('href'));
for (const e of document.querySelectorAll('input,select')) if (!e.labels || !e.labels.length) out.push('no label: ' + e.name);
for (const t of document.querySelectorAll('thead th')) if (!t.scope) out.push('th without scope');
for (const s of document.querySelectorAll('svg')) if (s.getAttribute('aria-hidden') !== 'true' && !s.getAttribute('aria-label')) out.push('picture without words');
return out;
"""

FOCUS = """
const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
return {tag: e.tagName, text: (e.textContent || e.name || '').trim().slice(0, 60), href: e.getAttribute('href') || '', main: e.id === 'main',
  outline: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2, seen: r.width > 0 && r.right > 0 && r.bottom > 0 && r.left >= 0,
  order: [...document.querySelectorAll('*')].indexOf(e)};
"""


class Look:
    def __init__(self, cfg):
        self.cfg, self.problems, self.slowest, self.visited = cfg, [], {}, 0
        self.profile = tempfile.mkdtemp(prefix="expunge-chromium-")
        opts = webdriver.ChromeOptions()
        opts.binary_location = shutil.which("chromium")
        for f in FLAGS + ["--user-data-dir=" + self.profile]:
            opts.add_argument(f)
        opts.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.d = webdriver.Chrome(options=opts, service=Service(shutil.which("chromedriver")))
        self.d.set_page_load_timeout(120)
        os.makedirs(cfg["shots"], exist_ok=True)

    def close(self):
        self.d.quit()
        shutil.rmtree(self.profile, ignore_errors=True)

    def bad(self, where, what):
        self.problems.append(f"{where}: {what}")

    def media(self, scheme, media=""):
        self.d.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def size(self, width, height=900):
        self.d.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})

    def shot(self, name):
        height = min(6000, self.d.execute_script("return document.documentElement.scrollHeight"))
        width = self.d.execute_script("return innerWidth")
        self.size(width, height)
        png = self.d.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
        with open(os.path.join(self.cfg["shots"], name + ".png"), "wb") as f:
            f.write(base64.b64decode(png))

    def console(self, where):
        for e in self.d.get_log("browser"):
            self.bad(where, "console: " + e["message"])

    def open(self, url):
        began = time.monotonic()
        self.d.get(url)
        return int(1000 * (time.monotonic() - began))

    def page(self, name, url):
        self.size(1200)
        self.media("light")
        took = self.open(url)
        self.visited += 1
        self.slowest[name] = took
        if took > 1000 * self.cfg["patience"]:
            self.bad(name, f"took {took} ms")
        for problem in self.d.execute_script(STRUCTURE):
            self.bad(name, problem)
        for scheme in ["light", "dark"]:
            self.media(scheme)
            for problem in self.d.execute_script(CONTRAST):
                self.bad(f"{name} {scheme}", "contrast " + problem)
            self.size(1200)
            self.shot(f"{name}-{scheme}")
        self.media("light")
        self.size(360)
        for problem in self.d.execute_script(OVERFLOW):
            self.bad(f"{name} narrow", "overflow " + problem)
        self.shot(f"{name}-narrow")
        self.size(794)
        self.media("light", "print")
        for problem in self.d.execute_script(OVERFLOW):
            self.bad(f"{name} print", "overflow " + problem)
        self.shot(f"{name}-print")
        self.media("light")
        self.size(1200)
        self.console(name)

    def tab(self):
        self.d.switch_to.active_element.send_keys(Keys.TAB)
        return self.d.execute_script(FOCUS)

    def keyboard(self, name, url):
        """Every link and field is reached by TAB alone, in order, and is seen when it is."""
        self.size(1200)
        self.open(url)
        want = self.d.execute_script("return [...document.querySelectorAll('a[href],input,select,button,[tabindex=\"0\"]')].filter(e => e.getClientRects().length).length")
        seen, last = 0, -1
        self.d.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
        f = self.d.execute_script(FOCUS)
        while f["tag"] != "BODY" and f["order"] > last:
            seen, last = seen + 1, f["order"]
            if not f["seen"]:
                self.bad(name, f"focus on something that is not seen: {f}")
            if not f["outline"]:
                self.bad(name, f"focus cannot be seen: {f}")
            f = self.tab()
        if seen < want:
            self.bad(name, f"TAB reaches {seen} of {want} elements; it ends at {f}")
        self.console(name + " by keyboard")

    def go(self, text):
        """Follows the first link that has the text, by TAB and ENTER."""
        self.d.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
        for _ in range(400):
            f = self.d.execute_script(FOCUS)
            if text in f["text"] or text in f["href"]:
                before = self.d.current_url
                self.d.switch_to.active_element.send_keys(Keys.ENTER)
                for _ in range(100):
                    if self.d.current_url != before and self.d.execute_script("return document.readyState") == "complete":
                        return
                    time.sleep(0.05)
                self.bad("keyboard", f"ENTER on {text} leads nowhere")
                return
            self.tab()
        self.bad("keyboard", f"no link {text} on {self.d.current_url}")

    def journey(self, base, run):
        """From the overview to one file's record without a mouse."""
        self.open(base + "/")
        first = (self.d.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB), self.d.execute_script(FOCUS))[1]
        if "Skip" not in first["text"] or not first["seen"]:
            self.bad("keyboard", f"the first stop is not the skip link: {first}")
        self.d.switch_to.active_element.send_keys(Keys.ENTER)
        time.sleep(0.2)
        if not self.d.execute_script("return document.activeElement.id === 'main' || location.hash === '#main'"):
            self.bad("keyboard", "the skip link does not lead to the content")
        self.open(base + "/")
        self.go(run)
        self.go(run + "-run")
        self.go("Browse")
        self.go("/files/3")
        if not self.d.current_url.endswith("/files/3") or "Record 3" not in self.d.page_source:
            self.bad("keyboard", "the journey ended at " + self.d.current_url)
        self.console("journey")

    def live(self, base, status):
        """The progress of a running job moves while one looks, without a reload and without losing the focus."""
        def put(done):
            doc = json.load(open(status["file"]))
            doc["counters"]["files_done"] = done
            doc["updated"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            tmp = status["file"] + ".tmp"
            json.dump(doc, open(tmp, "w"))
            os.replace(tmp, status["file"])
        put(1000)
        page = base + "/runs/" + status["run"]
        for _ in range(120):  # the server looks for new runs now and then; a 404 in the browser would be a console message
            try:
                if "1,000 of 5,000 files" in urllib.request.urlopen(page).read().decode():
                    break
            except urllib.error.HTTPError as e:
                if e.code != 404:
                    raise
            time.sleep(0.5)
        self.open(page)
        self.d.execute_script("window.marker = 1")
        put(2500)
        for _ in range(120):
            if "2,500 of 5,000 files" in self.d.page_source:
                break
            time.sleep(0.5)
        else:
            self.bad("live", "the progress did not move")
        if self.d.execute_script("return window.marker") != 1:
            self.bad("live", "the page was loaded anew")
        self.page("running", base + "/runs/" + status["run"])

    def report(self, name, path):
        url = "file://" + path
        self.page(name, url)
        loaded = self.d.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        if loaded:
            self.bad(name, f"loads {loaded}")
        pdf = self.d.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"]
        with open(os.path.join(self.cfg["shots"], name + ".pdf"), "wb") as f:
            f.write(base64.b64decode(pdf))
        self.keyboard(name, url)


def main():
    cfg = json.load(open(sys.argv[2]))
    look = Look(cfg)
    try:
        for site in cfg["sites"]:
            for name, path in site["pages"].items():
                look.page(site["name"] + "-" + name, site["base"] + path)
            for name in site.get("keyboard", []):
                look.keyboard(site["name"] + "-" + name, site["base"] + site["pages"][name])
            if site.get("journey"):
                look.journey(site["base"], site["journey"])
            if site.get("live"):
                look.live(site["base"], site["live"])
        for name, path in cfg["reports"].items():
            look.report(name, path)
    finally:
        look.close()
    print(json.dumps({"problems": look.problems, "slowest": look.slowest, "visited": look.visited}))


main()
