// A page in the Chromium that is installed, without anything that calls home. Its end ends this process.
const { chromium } = require("playwright-core");

const ARGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

module.exports = async function page(executablePath) {
  const browser = await chromium.launch({ executablePath, args: ARGS });
  return { page: await browser.newPage(), end: () => browser.close().then(() => process.exit()) };
};
