def test_probe(site):
    print(site.pids(), site.web.release(), site.nginx_workers())
    assert site.host.service("nginx").is_running
