"""Voilà's settings here: our template, kernels with a cap and a clean environment, nothing from outside."""

from importlib.resources import files

c = get_config()  # type: ignore[name-defined]  # noqa: F821  Jupyter gives it

c.Voila.log_level = "ERROR"
c.VoilaConfiguration.template = "mlops"
c.VoilaConfiguration.allow_template_override = "NO"
c.VoilaConfiguration.allow_theme_override = "NO"
c.VoilaConfiguration.show_tracebacks = False
c.VoilaConfiguration.file_allowlist = []  # of the notebook's folder nothing is served
c.VoilaConfiguration.extension_denylist = ["jupyterlab-plotly", "jupyterlab_pygments"]
c.VoilaConfiguration.extra_labextensions_path = [str(files("plotly") / "package_data")]  # plotly.min.js, for js/plot.js
c.VoilaExecutor.skip_cells_with_tag = "stage"  # what only the batch run does

c.VoilaConfiguration.multi_kernel_manager_class = "mlops_core.frontend.kernels.Kernels"
c.VoilaConfiguration.preheat_kernel = True
c.VoilaKernelManager.fill_delay = 3  # until the visitor who took the last one has his page: both need the same cores
c.MappingKernelManager.cull_idle_timeout = 1800
c.MappingKernelManager.cull_interval = 5
c.MappingKernelManager.cull_connected = True  # a forgotten tab is connected, too
c.KernelRestarter.restart_limit = 0  # a kernel that started again would know nothing of its page
c.KernelManager.transport_encryption = "auto"

c.IdentityProvider.cookie_options = {"SameSite": "Strict"}
c.Voila.tornado_settings = {
    "ws_ping_timeout": 30_000,  # milliseconds; with Jupyter's default Tornado complains that it exceeds the interval
    "xsrf_cookie_kwargs": {"samesite": "Strict"},
    "headers": {
        # Voilà starts from inline scripts, builds its validators with eval, and anywidget loads widgets from blobs.
        "Content-Security-Policy": (
            "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
            "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
            "worker-src 'self' blob:; "
            "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    },
}
