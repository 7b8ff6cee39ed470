# The Debian package: ./dev package. Its dependencies are what dpkg-shlibdeps finds in the program, so that no list of
# libraries is kept; PostgreSQL is recommended, since HOURZ_DATABASE_URL may name one elsewhere.
include(GNUInstallDirs)
set(CMAKE_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
    OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
install(TARGETS hourz RUNTIME DESTINATION bin)
install(PROGRAMS deploy/debian/hourzctl DESTINATION sbin)
install(PROGRAMS deploy/healthcheck DESTINATION lib/hourz)
install(FILES deploy/systemd/hourz.service DESTINATION /lib/systemd/system)
install(FILES deploy/.env.example DESTINATION /etc/hourz RENAME hourz.env
        PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ)
install(FILES docs/operations.md docs/security.md CHANGELOG.md DESTINATION share/doc/hourz)
install(FILES LICENSE DESTINATION share/doc/hourz RENAME copyright)
install(FILES deploy/prometheus/alerts.yml deploy/grafana/hourz.json deploy/nginx/hourz.conf
        DESTINATION share/doc/hourz/examples)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME hourz)
set(CPACK_PACKAGE_CONTACT "Hourz <hourz@example.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "backend of a hyperlocal gig app: REST and WebSocket on PostgreSQL with PostGIS")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "adduser, init-system-helpers, util-linux")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "postgresql-15-postgis-3, ca-certificates")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "redis-server, nginx, prometheus")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
    ${CMAKE_SOURCE_DIR}/deploy/debian/conffiles ${CMAKE_SOURCE_DIR}/deploy/debian/postinst
    ${CMAKE_SOURCE_DIR}/deploy/debian/prerm ${CMAKE_SOURCE_DIR}/deploy/debian/postrm)
include(CPack)
