/* `Trust`, `Origin` and `Sheet` of `_core`: what requests of one profile to one server have in common. */
#include "python.h"

static PyObject *trust_make(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"file", "folder", NULL};
    const char *file, *folder;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "zz", names, &file, &folder))
        return NULL;
    SSL_CTX *trust = trust_new(file, folder);
    if (!trust) {
        PyErr_Format(PyExc_OSError, "no certificate authorities in %s", file ? file : folder ? folder : "nothing");
        return NULL;
    }
    Trust *self = (Trust *)type_allocate(type);
    if (!self) {
        SSL_CTX_free(trust);
        return NULL;
    }
    self->trust = trust;
    return (PyObject *)self;
}

static void trust_dealloc(PyObject *self) {
    SSL_CTX_free(((Trust *)self)->trust);
    type_deallocate(self);
}

static PyType_Slot trust_slots[] = {{Py_tp_new, trust_make}, {Py_tp_dealloc, trust_dealloc}, {0, NULL}};
PyType_Spec trust_spec = {"bitstore._transport.native._core.Trust", sizeof(Trust), 0, Py_TPFLAGS_DEFAULT,
                                 trust_slots};

/* Origin */

static PyObject *origin_make(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"trust", "server_name", "connect_timeout", "stall_timeout", "max_bytes", NULL};
    PyObject *trust;
    const char *server_name;
    double connect_timeout, stall_timeout;
    long long most;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OsddL", names, &trust, &server_name, &connect_timeout,
                                     &stall_timeout, &most))
        return NULL;
    if (trust != Py_None && !PyObject_TypeCheck(trust, trust_type)) {
        PyErr_SetString(PyExc_TypeError, "trust: expected a Trust or None");
        return NULL;
    }
    Origin *self = (Origin *)type_allocate(type);
    if (!self)
        return NULL;
    self->origin = origin_new(trust == Py_None ? NULL : ((Trust *)trust)->trust, server_name);
    if (!self->origin) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    self->origin->connect_timeout = connect_timeout;
    self->origin->stall_timeout = stall_timeout;
    self->origin->most = most;
    return (PyObject *)self;
}

static void origin_dealloc(PyObject *self) {
    struct origin *origin = ((Origin *)self)->origin;
    if (origin) {
        group_retire(origin);
        origin_drop(origin);
    }
    type_deallocate(self);
}

static PyObject *origin_reached(PyObject *self, PyObject *args) {
    const char *text;
    int port;
    double seconds;
    if (!PyArg_ParseTuple(args, "sid", &text, &port, &seconds))
        return NULL;
    struct origin *origin = ((Origin *)self)->origin;
    struct address address;
    if (address_read(&address, text, port)) {
        origin->address = address;
        origin->known_until = group_now() + seconds;
    }
    Py_RETURN_NONE;
}

static PyMethodDef origin_methods[] = {{"reached", origin_reached, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static PyType_Slot origin_slots[] = {
    {Py_tp_new, origin_make}, {Py_tp_dealloc, origin_dealloc}, {Py_tp_methods, origin_methods}, {0, NULL}};
PyType_Spec origin_spec = {"bitstore._transport.native._core.Origin", sizeof(Origin), 0, Py_TPFLAGS_DEFAULT,
                                  origin_slots};

/* Sheet */

static PyObject *sheet_make(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"canonical", "text", "before", "after", "key", NULL};
    const char *texts[4], *key;
    Py_ssize_t sizes[4], key_size;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y#y#y#y#y#", names, &texts[0], &sizes[0], &texts[1], &sizes[1],
                                     &texts[2], &sizes[2], &texts[3], &sizes[3], &key, &key_size))
        return NULL;
    const size_t unsigned_sizes[4] = {(size_t)sizes[0], (size_t)sizes[1], (size_t)sizes[2], (size_t)sizes[3]};
    struct sheet *sheet = sheet_new(texts, unsigned_sizes, (const unsigned char *)key, (size_t)key_size);
    if (!sheet) {
        PyErr_SetString(PyExc_ValueError, "no sheet can be made: the key must be of 32 bytes");
        return NULL;
    }
    Sheet *self = (Sheet *)type_allocate(type);
    if (!self) {
        sheet_free(sheet);
        return NULL;
    }
    self->sheet = sheet;
    return (PyObject *)self;
}

static void sheet_dealloc(PyObject *self) {
    sheet_free(((Sheet *)self)->sheet);
    type_deallocate(self);
}

static PyType_Slot sheet_slots[] = {{Py_tp_new, sheet_make}, {Py_tp_dealloc, sheet_dealloc}, {0, NULL}};
PyType_Spec sheet_spec = {"bitstore._transport.native._core.Sheet", sizeof(Sheet), 0, Py_TPFLAGS_DEFAULT,
                                 sheet_slots};
