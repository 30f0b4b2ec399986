"""The browser pages: a client of the HTTP API and nothing else. Imports nothing from `appliance`.

    site = create_site(api, UiSettings(site_name="St. Brigid Hospital"))   # one ASGI application for uvicorn

`site.py` puts it together, `guard.py` stands in front of everything, `client.py` is the only way to the API.
"""
