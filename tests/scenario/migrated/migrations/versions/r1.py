from alembic import op

revision = "r1"
down_revision = None


def upgrade():
    op.execute("CREATE TABLE stock (id int PRIMARY KEY)")
    op.execute("INSERT INTO stock VALUES (1)")
