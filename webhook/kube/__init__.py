from webhook.kube.lean import prepare

prepare()  # before any module of this package imports the library
