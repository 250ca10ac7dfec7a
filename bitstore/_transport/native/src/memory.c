/* Memory for a whole blob, of which several requests receive parts: bytes that nobody has seen before they are whole. */
#include "python.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE (2 * 1024 * 1024)

void memory_huge_pages(char *memory, size_t size) {
#ifdef MADV_HUGEPAGE
    size_t before = HUGE_PAGE - (uintptr_t)memory % HUGE_PAGE;
    if (size >= before + HUGE_PAGE)
        madvise(memory + before, (size - before) / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#else
    (void)memory;
    (void)size;
#endif
}

PyObject *memory_new(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "n", &size))
        return NULL;
    PyObject *memory = PyBytes_FromStringAndSize(NULL, size);
    if (memory)
        memory_huge_pages(PyBytes_AsString(memory), (size_t)size);
    return memory;
}

PyObject *memory_copy(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *memory;
    Py_ssize_t start;
    const char *data;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "O!ny#", &PyBytes_Type, &memory, &start, &data, &size))
        return NULL;
    if (start < 0 || start > PyBytes_Size(memory) || size > PyBytes_Size(memory) - start) {
        PyErr_Format(PyExc_ValueError, "%zd bytes at %zd: the memory has %zd", size, start, PyBytes_Size(memory));
        return NULL;
    }
    memcpy(PyBytes_AsString(memory) + start, data, (size_t)size);
    Py_RETURN_NONE;
}
