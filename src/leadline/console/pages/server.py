"""All pages of those who look after the server."""

from leadline.console.page import Page
from leadline.console.pages.admin import audit, engines, grants, mail, organisations, prices, system, users, weights

PAGES: tuple[Page, ...] = (
    *engines.PAGES,
    *weights.PAGES,
    *users.PAGES,
    *organisations.PAGES,
    *grants.PAGES,
    *prices.PAGES,
    *audit.PAGES,
    *mail.PAGES,
    *system.PAGES,
)
